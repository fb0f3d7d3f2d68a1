"""A window holds what happened in it, each request ends once, and names that clients choose cannot fill the memory."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.core import DeadlineExceeded, InvalidRequest, ModelError, QueueFull, SetpointError, WorkerLost
from setpoint.observe import ModelMetrics, RequestCounts, Windows
from setpoint.observe.counts import OTHER_TENANTS, TENANT_LIMIT

S = 1_000_000_000
MS = 1_000_000


class Ended:
    """A request at its end."""

    def __init__(self, arrived_ns: int, deadline_ns: int = 0, tenant: str = "", variant: str = "fp32") -> None:
        self.arrived_ns = self.started_ns = arrived_ns
        self.run_ns = 0
        self.deadline_ns = deadline_ns
        self.tenant = tenant
        self.variant = variant


@given(st.lists(st.tuples(st.integers(0, 3_000 * MS), st.sampled_from(["offered", "in_time", "late"])), max_size=80))
def test_a_window_holds_what_happened_in_it(steps: list[tuple[int, str]]) -> None:
    counts = RequestCounts()
    windows = Windows(counts)
    happened: list[tuple[int, str]] = []
    now_ns = 1
    windows.mark(now_ns)
    for wait_ns, name in steps:
        for _ in range(0, wait_ns, 100 * MS):  # marked ten times a second, as the node does
            now_ns += 100 * MS
            windows.mark(now_ns)
        setattr(counts, name, getattr(counts, name) + 1)
        happened.append((now_ns, name))
    for seconds in (10, 60):
        found, really_s = windows.last(seconds, now_ns)
        assert really_s <= seconds + 1.1
        assert really_s >= min(seconds, (now_ns - 1) / S) - 1e-6
        begin_ns = now_ns - round(really_s * S)
        at_least = Counter(name for then_ns, name in happened if then_ns > begin_ns)
        at_most = Counter(name for then_ns, name in happened if then_ns >= begin_ns)
        for name in ("offered", "in_time", "late"):
            assert at_least[name] <= getattr(found, name) <= at_most[name]


def test_before_the_first_mark_there_is_no_window() -> None:
    found, seconds = Windows(RequestCounts()).last(10, S)
    assert (found.offered, seconds, found.attainment) == (0, 0.0, None)


def test_attainment_counts_refusals_failures_and_late_answers_as_misses_and_nothing_else() -> None:
    metrics = ModelMetrics()
    for _ in range(10):
        metrics.offered("")
    for _ in range(5):
        metrics.answered(Ended(0, deadline_ns=20), 20)
    metrics.answered(Ended(0, deadline_ns=20), 21)
    metrics.refused_at_door(Ended(0), QueueFull("full"))
    metrics.failed(Ended(0), ModelError("broken"), 5)
    metrics.failed(Ended(0), InvalidRequest("not a number"), 5)
    metrics.cancelled(Ended(0))
    counts = metrics.counts
    assert (counts.offered, counts.in_time, counts.misses) == (10, 5, 3)
    assert counts.attainment == 5 / 8
    assert metrics.outcomes == {"ok": 6, "model_error": 1, "invalid_request": 1, "cancelled": 1}


def test_without_a_deadline_every_answer_is_in_time() -> None:
    metrics = ModelMetrics()
    metrics.answered(Ended(1), 10**15)
    assert metrics.counts.attainment == 1.0


errors = st.sampled_from([QueueFull("a"), DeadlineExceeded("b"), WorkerLost("c"), ModelError("d"), InvalidRequest("e")])
ends = st.one_of(st.sampled_from(["answered", "late", "cancelled"]), errors)


@given(st.lists(st.tuples(ends, st.sampled_from(["", "a", "b"])), max_size=60))
def test_every_request_ends_once_for_its_model_and_once_for_its_tenant(
    requests: list[tuple[str | SetpointError, str]],
) -> None:
    metrics = ModelMetrics()
    for end, tenant in requests:
        metrics.offered(tenant)
        request = Ended(0, deadline_ns=10, tenant=tenant)
        if isinstance(end, SetpointError):
            metrics.failed(request, end, 5)
        elif end == "cancelled":
            metrics.cancelled(request)
        else:
            metrics.answered(request, 10 if end == "answered" else 11)
    counts = metrics.counts
    assert counts.in_time + counts.misses + counts.invalid + counts.cancelled == counts.offered == len(requests)
    assert sum(counts.answers.values()) == counts.in_time + counts.late == metrics.outcomes.get("ok", 0)
    for name, line in counts.tenants.items():
        ended = (line.in_time, line.late, line.missed, line.invalid, line.cancelled)
        assert sum(ended) == line.offered == sum(tenant == name for _, tenant in requests)


def test_tenants_beyond_the_limit_share_a_line() -> None:
    metrics = ModelMetrics()
    for number in range(10 * TENANT_LIMIT):
        metrics.offered(f"tenant {number}")
        metrics.answered(Ended(0, tenant=f"tenant {number}"), 1)
    tenants = metrics.counts.tenants
    assert len(tenants) == TENANT_LIMIT + 1
    assert tenants["tenant 0"].in_time == 1
    assert tenants[OTHER_TENANTS].offered == tenants[OTHER_TENANTS].in_time == 9 * TENANT_LIMIT


@pytest.mark.parametrize(("answers", "shares"), [({}, {}), ({"fp32": 1, "int8": 3}, {"fp32": 0.25, "int8": 0.75})])
def test_shares_are_of_the_answers(answers: dict[str, int], shares: dict[str, float]) -> None:
    counts = RequestCounts()
    counts.answers.update(answers)
    assert counts.shares() == shares


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 50), st.sampled_from(["", "a", "b"]), st.integers(0, 80)),
        max_size=20,
    )
)
def test_answers_counted_together_are_those_counted_one_by_one(ends: list[tuple[int, int, str, int]]) -> None:
    together, each = ModelMetrics(), ModelMetrics()
    requests = [Ended(arrived_ms * MS, deadline_ms * MS, tenant) for arrived_ms, deadline_ms, tenant, _ in ends]
    ended_ns = [end_ms * MS for *_, end_ms in ends]
    together.answered_together(requests, ended_ns)
    for request, end_ns in zip(requests, ended_ns, strict=True):
        each.answered(request, end_ns)
    for name in ("queue_ns", "run_ns", "total_ns"):
        assert getattr(together, name).all_time().rows() == getattr(each, name).all_time().rows()
    for name in ("in_time", "late", "answers"):
        assert getattr(together.counts, name) == getattr(each.counts, name)
    for name, counts in each.counts.tenants.items():
        assert (together.counts.tenant(name).in_time, together.counts.tenant(name).late) == (
            counts.in_time,
            counts.late,
        )
