"""What ``GET /metrics`` says: the node, its models, its workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from setpoint import __version__
from setpoint.core import SystemClock
from setpoint.machine import rss_bytes
from setpoint.node.service import ModelService
from setpoint.node.slot import State
from setpoint.observe import Family, LoopLag, Sample, model_families, render


def exposition(
    services: Sequence[ModelService],
    responses: Counter[int],
    connections: int,
    in_flight: int,
    pid: int,
    loop_lag: LoopLag | None = None,
) -> bytes:
    """Prometheus text.

    Args:
        services: the models; the parts of a composition follow it, named ``COMPOSITION/STEP``.
        responses: HTTP responses by status.
        connections: open connections.
        in_flight: requests read and not yet answered whole.
        pid: of the node.
        loop_lag: how late its event loop is, where that is measured.
    """
    services = [each for service in services for each in (service, *service.parts)]
    families = [
        Family("setpoint_build_info", "gauge", "The version that runs.", (Sample({"version": __version__}, 1),)),
        Family(
            "setpoint_http_responses_total",
            "counter",
            "HTTP responses by status.",
            tuple(Sample({"code": str(code)}, count) for code, count in sorted(responses.items())),
        ),
        Family("setpoint_http_connections", "gauge", "Open client connections.", (Sample({}, connections),)),
        Family("setpoint_http_in_flight", "gauge", "Requests not yet answered whole.", (Sample({}, in_flight),)),
        Family("setpoint_resident_bytes", "gauge", "Resident memory by process.", tuple(_memory(services, pid))),
    ]
    families += loop_lag.families() if loop_lag is not None else []
    now_ns = SystemClock.now_ns()
    for service in services:
        labels = {"model": service.name, "version": str(service.config.bundle.version)}
        states = Counter(slot.state for slot in service.slots)
        families += [
            *model_families(service.metrics, labels, now_ns, service.accuracies),
            *(service.metrics.cache.families(labels) if service.metrics.cache is not None else ()),
            Family("setpoint_queue_rows", "gauge", "Rows that wait.", (Sample(labels, service.queue_rows),)),
            Family(
                "setpoint_queue_age_seconds",
                "gauge",
                "Since when the request waits that has waited longest; 0 when none does.",
                (Sample(labels, service.oldest_wait_ns(now_ns) / 1e9),),
            ),
            Family(
                "setpoint_requests_in_flight",
                "gauge",
                "Accepted requests that wait or are in a worker: those accepted less those with an outcome.",
                (Sample(labels, service.in_flight),),
            ),
            Family(
                "setpoint_workers",
                "gauge",
                "Workers by state.",
                tuple(Sample({**labels, "state": state.value}, states[state]) for state in State),
            ),
        ]
    return render(_merged(families))


def _memory(services: Sequence[ModelService], pid: int) -> Iterable[Sample]:
    yield Sample({"process": "node"}, rss_bytes(pid) or 0)
    for service in services:
        for slot in service.slots:
            if slot.handle is not None:
                labels = {"process": "worker", "model": service.name, "worker": str(slot.index)}
                yield Sample(labels, rss_bytes(slot.handle.pid) or 0)


def _merged(families: Iterable[Family]) -> Iterable[Family]:
    """All series of one name under one heading, as the format wants it."""
    by_name: dict[str, Family] = {}
    for family in families:
        known = by_name.get(family.name)
        samples = family.samples if known is None else known.samples + family.samples
        by_name[family.name] = Family(family.name, family.kind, family.help, samples)
    return by_name.values()
