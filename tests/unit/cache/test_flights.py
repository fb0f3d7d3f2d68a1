"""Of identical requests one runs; whatever happens to it, none of the others is lost, run twice, or held back."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from setpoint.core import (
    DeadlineExceeded,
    Draining,
    InternalError,
    InvalidRequest,
    ModelError,
    NotReady,
    QueueFull,
    SetpointError,
    WorkerLost,
)
from setpoint.node.cache.flights import Flights, Role, shared_fate, urgency

LIMIT = 6
keys = st.sampled_from([b"a", b"b"])


class Asked:
    """A request, and all that became of it."""

    def __init__(self, key: bytes, deadline_ns: int, priority: int) -> None:
        self.key = key
        self.deadline_ns = deadline_ns
        self.priority = priority
        self.ends: list[str] = []
        self.running = False

    def end(self, how: str) -> None:
        self.ends.append(how)
        self.running = False


class InFlight(RuleBasedStateMachine):
    """Requests come, run, are answered, fail, leave and expire in every order."""

    def __init__(self) -> None:
        super().__init__()
        self.flights: Flights[Asked] = Flights(LIMIT)
        self.asked: list[Asked] = []
        self.now_ns = 1

    @property
    def open(self) -> list[Asked]:
        return [request for request in self.asked if not request.ends]

    @property
    def running(self) -> list[Asked]:
        return [request for request in self.open if request.running]

    @property
    def waiting(self) -> list[Asked]:
        return [request for request in self.open if not request.running]

    @rule(key=keys, in_ns=st.integers(0, 20), priority=st.integers(-1, 1))
    def come(self, key: bytes, in_ns: int, priority: int) -> None:
        request = Asked(key, self.now_ns + in_ns if in_ns else 0, priority)
        same = [other for other in self.running if other.key == key]
        role = self.flights.join(key, request)
        self.asked.append(request)
        request.running = role is not Role.FOLLOW
        if role is Role.RUN:
            assert self.flights.get(key) is not None
        elif role is Role.FOLLOW:
            assert any(urgency(other) <= urgency(request) for other in same), "it waits behind a less urgent one"
        else:
            flight = self.flights.get(key)
            assert flight is not None
            assert urgency(flight.runner) > urgency(request) or self.flights.following == LIMIT

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.running))
        for follower in self.flights.landed(request.key, request):
            assert follower.key == request.key
            follower.end("answered")
        request.end("answered")
        assert not [other for other in self.waiting if other.key == request.key], "somebody still waits"

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def fail_together(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.running))
        for follower in self.flights.crashed(request.key, request):
            follower.end("failed")
        request.end("failed")

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def have_no_answer(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.running))
        flight = self.flights.get(request.key)
        assert flight is not None or not [other for other in self.waiting if other.key == request.key]
        was_runner = flight is not None and flight.runner is request
        waiting = [other for other in self.waiting if other.key == request.key]
        heir = self.flights.stalled(request.key, request)
        request.end("refused")
        if heir is None:
            assert not (was_runner and waiting)
            return
        assert heir in waiting
        assert urgency(heir) == min(map(urgency, waiting)), "a less urgent one runs first"
        heir.running = True

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.waiting))
        assert self.flights.left(request.key, request)
        assert not self.flights.left(request.key, request)
        request.end("cancelled")

    @rule(passed_ns=st.integers(1, 10))
    def pass_time(self, passed_ns: int) -> None:
        self.now_ns += passed_ns
        for key, request in self.flights.expired(self.now_ns):
            assert key == request.key
            assert 0 < request.deadline_ns < self.now_ns
            request.end("expired")
        assert not [request for request in self.waiting if 0 < request.deadline_ns < self.now_ns]

    @invariant()
    def nobody_is_lost_or_ended_twice(self) -> None:
        assert all(len(request.ends) <= 1 for request in self.asked)
        assert self.flights.following == len(self.waiting) <= LIMIT
        for request in self.waiting:
            flight = self.flights.get(request.key)
            assert flight is not None, "it waits for nobody"
            assert flight.runner in self.running
            assert request in flight.followers
        assert {key for key in self.flights.keys()} <= {request.key for request in self.running}  # noqa: SIM118, C416


TestInFlight = InFlight.TestCase
TestInFlight.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize(
    "error", [InvalidRequest(""), ModelError(""), WorkerLost(""), InternalError("")], ids=lambda error: error.kind
)
def test_what_the_inputs_caused_is_shared_above_all_a_lost_worker(error: SetpointError) -> None:
    assert shared_fate(error)


@pytest.mark.parametrize(
    "error", [QueueFull(""), DeadlineExceeded(""), NotReady(""), Draining("")], ids=lambda error: error.kind
)
def test_a_refusal_is_its_own_requests_only(error: SetpointError) -> None:
    assert not shared_fate(error)
