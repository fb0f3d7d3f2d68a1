"""A request is sent again only if it cannot have run, never before the server said, never past its deadline."""

import contextlib
from typing import Any

import pytest
from driving import Drive
from hypothesis import given
from hypothesis import strategies as st

from setpoint.client import Retries
from setpoint.client.exchange import Reply, Request, Steps, TransportFailure
from setpoint.client.retrying import attempts
from setpoint.core import DeadlineExceeded, InvalidConfiguration, NotReady, QueueFull, RefusedError
from setpoint.testing import SimulatedClock

POST = Request("POST", "/models/m/e", (b"{}",))
GET = Request("GET", "/models", idempotent=True)
OK = Reply(200, {}, bytearray(b"1"))
REFUSED = TransportFailure("nothing answers", sent=False)
BROKEN = TransportFailure("broke", sent=True)
LATE = TransportFailure("no answer in time", sent=True, timed_out=True)


def refusal(status: int = 503, after_s: float | None = 1.0, kind: str = "queue_full") -> Reply:
    told = {} if after_s is None else {"retry-after-ms": str(after_s * 1e3), "retry-after": "1"}
    return Reply(status, {**told, "setpoint-error": kind}, bytearray(b'{"error":"full"}'))


def steps(
    clock: SimulatedClock, request: Request = POST, deadline_s: float = 60, chance: float = 0.0, **retries: Any
) -> Steps[Reply]:
    return attempts(request, clock.now_ns() + int(deadline_s * 1e9), Retries(**retries), clock, chance=lambda: chance)


def test_an_answer_is_returned_at_once(drive, clock):
    assert drive(steps(clock), [OK]) is OK
    assert drive.paused_s == []


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_with_a_time_is_tried_again_then(drive, clock, status):
    assert drive(steps(clock), [refusal(status, 0.25), refusal(status, 2.0), OK]) is OK
    assert drive.paused_s == [0.25, 2.0]


def test_pauses_are_spread_and_never_shorter_than_told(drive, clock):
    drive(steps(clock, chance=1.0, spread=0.5), [refusal(after_s=2.0), OK])
    assert drive.paused_s == [3.0]


@pytest.mark.parametrize(
    "final",
    [
        refusal(after_s=None),  # nobody says when: it may never pass
        refusal(kind="worker_lost"),  # it was run, and lost its worker
        refusal(504, kind="deadline_exceeded"),
        Reply(500, {"setpoint-error": "model_error"}, bytearray(b"{}")),
        Reply(400, {"setpoint-error": "invalid_request"}, bytearray(b"{}")),
        Reply(502, {}, bytearray()),
    ],
    ids=lambda reply: f"{reply.status} {reply.headers.get('setpoint-error', '')}",
)
def test_other_errors_are_final(drive, clock, final):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the class is judged elsewhere
        drive(steps(clock), [final])
    assert not isinstance(caught.value, StopIteration)
    assert len(drive.sent) == 1


def test_a_refused_connection_is_tried_again_with_growing_pauses(drive, clock):
    assert drive(steps(clock, attempts=6, longest_pause_s=0.3), [REFUSED] * 5 + [OK]) is OK
    assert drive.paused_s == [0.05, 0.1, 0.2, 0.3, 0.3]


def test_what_may_have_run_is_not_sent_again(drive, clock):
    with pytest.raises(NotReady, match="broke"):
        drive(steps(clock), [BROKEN])
    assert len(drive.sent) == 1


def test_what_changes_nothing_is(drive, clock):
    assert drive(steps(clock, GET), [BROKEN, OK]) is OK


def test_a_deadline_that_passed_is_final(drive, clock):
    for request in (POST, GET):
        with pytest.raises(DeadlineExceeded, match="in time"):
            drive(steps(clock, request), [LATE])
    assert drive.paused_s == []


def test_attempts_are_bounded(drive, clock):
    with pytest.raises(QueueFull, match="full") as caught:
        drive(steps(clock, attempts=3), [refusal()] * 3)
    assert len(drive.sent) == 3
    assert caught.value.retry_after_s == 1.0


def test_no_retries_means_none(drive, clock):
    with pytest.raises(NotReady):
        drive(steps(clock, attempts=1), [REFUSED])
    assert drive.paused_s == []


def test_nobody_waits_beyond_the_deadline(drive, clock):
    with pytest.raises(QueueFull):
        drive(steps(clock, deadline_s=1.5), [refusal(after_s=1.0), refusal(after_s=1.0)])
    assert drive.paused_s == [1.0]


def test_each_attempt_tells_how_much_time_is_left(drive, clock):
    drive(steps(clock, deadline_s=10), [refusal(after_s=2.0), OK], each_takes_s=0.5)
    assert [send.request.headers["setpoint-timeout-ms"] for send in drive.sent] == ["10000.000", "7500.000"]
    assert len({send.deadline_ns for send in drive.sent}) == 1


def test_questions_about_the_server_have_no_deadline_there(drive, clock):
    drive(steps(clock, GET), [OK])
    assert drive.sent[0].request.headers == {}


def test_a_day_is_the_longest_time_that_is_told(drive, clock):
    drive(steps(clock, deadline_s=1e6), [OK])
    assert drive.sent[0].request.headers["setpoint-timeout-ms"] == "86400000.000"


def test_no_time_is_no_request(drive, clock):
    with pytest.raises(DeadlineExceeded):
        drive(steps(clock, deadline_s=0), [])
    assert drive.sent == []


@given(
    st.lists(st.sampled_from([refusal(after_s=0.3), refusal(429, 5.0), REFUSED]), max_size=20),
    st.floats(0.01, 20),
    st.floats(0, 1),
    st.floats(0, 2),
)
def test_no_history_passes_the_deadline(history, deadline_s, chance, takes_s):
    clock = SimulatedClock(1)
    drive = Drive(clock)
    with contextlib.suppress(RefusedError):
        drive(steps(clock, deadline_s=deadline_s, chance=chance, attempts=30), [*history, OK], takes_s)
    # What a step itself takes is the network's to bound; a pause never goes beyond.
    assert clock.now_ns() - 1 <= (deadline_s + takes_s) * 1e9 + 1


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"first_pause_s": 0}, {"longest_pause_s": -1}, {"spread": -0.1}])
def test_impossible_retries_are_refused(wrong):
    with pytest.raises(InvalidConfiguration):
        Retries(**wrong)
