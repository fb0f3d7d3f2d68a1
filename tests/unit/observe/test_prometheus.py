"""The exposition is what Prometheus's own parser reads, to the last label and digit."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from setpoint.observe import CONTENT_TYPE, Family, Histogram, ModelMetrics, Sample, render

label_values = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def parsed(families: list[Family]) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(render(families).decode())}


def test_the_content_type_names_the_format() -> None:
    assert CONTENT_TYPE == b"text/plain; version=0.0.4; charset=utf-8"


@given(st.lists(label_values, max_size=4, unique=True), st.floats(-1e12, 1e12))
def test_any_label_survives(labels: list[str], value: float) -> None:
    samples = tuple(Sample({"model": label, "stage": "x"}, value) for label in labels)
    (family,) = parsed([Family("setpoint_thing", "gauge", "Some thing.", samples)]).values()
    assert [sample.labels["model"] for sample in family.samples] == labels
    assert [sample.value for sample in family.samples] == [value] * len(labels)
    assert (family.type, family.documentation) == ("gauge", "Some thing.")


@pytest.mark.parametrize("value", [0, 1, 2**53 - 1, 123_456_789_012_345])
def test_counters_are_exact(value: int) -> None:
    """A counter of a large node must not lose its last digits: a rate would be 0, then a jump."""
    family = parsed([Family("setpoint_things_total", "counter", "Things.", (Sample({}, value),))])["setpoint_things"]
    assert int(family.samples[0].value) == value


@given(st.lists(st.integers(0, 5000), max_size=40), st.sampled_from([1.0, 1e-9]))
def test_histograms_are_cumulative_and_scaled(added: list[int], scale: float) -> None:
    bounds = (10, 100, 1000)
    histogram = Histogram(bounds)
    for value in added:
        histogram.add(value)
    samples = (Sample({"a": "b"}, histogram, scale),)
    family = parsed([Family("setpoint_time", "histogram", "Time.", samples)])["setpoint_time"]
    buckets = {s.labels["le"]: s.value for s in family.samples if s.name.endswith("_bucket")}
    assert [float(bound) for bound in buckets] == [*(pytest.approx(bound * scale) for bound in bounds), float("inf")]
    assert list(buckets.values()) == [*(sum(value <= bound for value in added) for bound in bounds), len(added)]
    rest = {s.name: s.value for s in family.samples if not s.name.endswith("_bucket")}
    assert rest == {"setpoint_time_sum": sum(added) * scale, "setpoint_time_count": len(added)}
    assert all(sample.labels["a"] == "b" for sample in family.samples)


def test_a_family_without_samples_is_still_declared() -> None:
    assert list(parsed([Family("setpoint_none_total", "counter", "None yet.", ())])) == ["setpoint_none"]


def test_what_is_counted_of_a_model_reads_back() -> None:
    metrics = ModelMetrics()
    metrics.accepted = 7
    metrics.outcomes.update({"ok": 5, "cancelled": 1})
    metrics.retries = 2
    metrics.restarts["died"] = 1
    metrics.batch_rows.add(3)
    metrics.queue_ns.add(2_000_000)
    metrics.run_ns.add(10_000_000)
    metrics.total_ns.add(12_000_000)
    families = parsed(metrics.families({"model": "iris", "version": "3"}))

    def value(name: str, family: str, **labels: str) -> float:
        wanted = {"model": "iris", "version": "3", **labels}
        (found,) = [s.value for s in families[family].samples if s.name == name and s.labels == wanted]
        return float(found)

    assert value("setpoint_requests_total", "setpoint_requests", outcome="ok") == 5
    assert value("setpoint_requests_total", "setpoint_requests", outcome="cancelled") == 1
    assert value("setpoint_requests_accepted_total", "setpoint_requests_accepted") == 7
    assert value("setpoint_request_retries_total", "setpoint_request_retries") == 2
    assert value("setpoint_worker_restarts_total", "setpoint_worker_restarts", reason="died") == 1
    assert value("setpoint_batch_rows_sum", "setpoint_batch_rows") == 3
    for stage, seconds in (("queue", 0.002), ("run", 0.01), ("total", 0.012)):
        name = "setpoint_request_duration_seconds"
        assert value(f"{name}_sum", name, stage=stage) == pytest.approx(seconds)
        assert value(f"{name}_bucket", name, stage=stage, le=f"{seconds if stage != 'total' else 0.015:g}") == 1
