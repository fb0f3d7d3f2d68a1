"""What ``GET /metrics`` says of the life of models: who is awake, what they hold, how often they were woken."""

from __future__ import annotations

from collections.abc import Iterable

from setpoint.node.fleet import Fleet
from setpoint.node.parking import Phase
from setpoint.observe import Family, Sample


def fleet_families(fleet: Fleet) -> Iterable[Family]:
    """Gauges of now, counters since the start."""
    harbour = fleet.harbour
    phases = harbour.phases()
    yield Family(
        "setpoint_models",
        "gauge",
        "Models by where they are between parked and awake.",
        tuple(Sample({"phase": phase.value}, phases[phase]) for phase in Phase),
    )
    if harbour.memory_bytes:
        yield Family(
            "setpoint_memory_bound_bytes",
            "gauge",
            "What models may hold together: --memory without what the node itself holds.",
            (Sample({}, harbour.budget_bytes),),
        )
        yield Family(
            "setpoint_memory_held_bytes",
            "gauge",
            "What models hold, those being woken or parked included, as last measured.",
            (Sample({}, harbour.held_bytes),),
        )
    for name, counts, help_text in (
        ("setpoint_model_wakes_total", harbour.wakes, "Times a model's workers were started to answer requests."),
        ("setpoint_model_wake_failures_total", harbour.wake_failures, "Times they could not be."),
        ("setpoint_model_parks_total", harbour.parks, "Times they were ended to make room for another model."),
    ):
        yield Family(name, "counter", help_text, tuple(Sample({"model": m}, n) for m, n in sorted(counts.items())))
