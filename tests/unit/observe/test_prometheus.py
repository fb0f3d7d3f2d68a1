"""The exposition is what Prometheus's own parser reads, to the last label and digit."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from setpoint.observe import CONTENT_TYPE, Family, Histogram, Sample, render

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
    histogram = Histogram()
    for value in added:
        histogram.add(value)
    samples = (Sample({"a": "b"}, histogram.buckets(bounds), scale),)
    family = parsed([Family("setpoint_time", "histogram", "Time.", samples)])["setpoint_time"]
    buckets = {s.labels["le"]: s.value for s in family.samples if s.name.endswith("_bucket")}
    assert [float(bound) for bound in buckets] == [*(pytest.approx(bound * scale) for bound in bounds), float("inf")]
    assert list(buckets.values()) == [*(sum(value <= bound for value in added) for bound in bounds), len(added)]
    rest = {s.name: s.value for s in family.samples if not s.name.endswith("_bucket")}
    assert rest == {"setpoint_time_sum": sum(added) * scale, "setpoint_time_count": len(added)}
    assert all(sample.labels["a"] == "b" for sample in family.samples)


def test_a_family_without_samples_is_still_declared() -> None:
    assert list(parsed([Family("setpoint_none_total", "counter", "None yet.", ())])) == ["setpoint_none"]
