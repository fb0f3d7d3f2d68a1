"""Every error has one status, and a body that V2 clients can read."""

import inspect
import json

import pytest

from setpoint.core import (
    DeadlineExceeded,
    Draining,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    ModelError,
    NotFound,
    NotReady,
    OverShare,
    QueueFull,
    RequestTimeout,
    RequestTooLarge,
    SetpointError,
    UnsupportedMedia,
    WorkerLost,
)
from setpoint.core import errors as tree
from setpoint.wire import body_of, headers_of, sse, status_of


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest("m"), 400),
        (NotFound("m"), 404),
        (MethodNotAllowed("m", ("GET", "HEAD")), 405),
        (RequestTimeout("m"), 408),
        (RequestTooLarge("m"), 413),
        (RequestTooLarge("m", header=True), 431),
        (UnsupportedMedia("m"), 415),
        (QueueFull("m"), 503),
        (OverShare("m"), 429),
        (Draining("m"), 503),
        (NotReady("m"), 503),
        (WorkerLost("m"), 503),
        (DeadlineExceeded("m"), 504),
        (ModelError("m"), 500),
        (InternalError("m"), 500),
    ],
    ids=repr,
)
def test_status(error: SetpointError, status: int) -> None:
    assert status_of(error) == status


def test_every_error_of_the_tree_has_a_status_that_says_whose_fault_it_is() -> None:
    classes = [c for _, c in inspect.getmembers(tree, inspect.isclass) if issubclass(c, SetpointError)]
    assert len(classes) > 20
    for one in classes:
        error = one("library", "extra", "purpose") if one is tree.MissingExtra else one("message")
        status = status_of(error)
        assert (400 <= status < 500 and status != 429) == isinstance(error, tree.RequestError)
        assert (status in (429, 503, 504)) == isinstance(error, tree.RefusedError)


@pytest.mark.parametrize("message", ["plain", 'with "quotes"\nand lines', "été \U0001f600", ""])
def test_the_body_is_one_string(message: str) -> None:
    assert json.loads(body_of(InvalidRequest(message))) == {"error": message}


@pytest.mark.parametrize(
    ("wait_s", "seconds", "milliseconds"),
    [(0.0, "1", "1"), (0.2, "1", "200"), (1.0, "1", "1000"), (1.01, "2", "1010"), (30.0, "30", "30000")],
)
def test_refusals_say_when_to_come_back_in_whole_seconds_and_exactly(
    wait_s: float, seconds: str, milliseconds: str
) -> None:
    assert headers_of(QueueFull("m", wait_s)) == (("retry-after", seconds), ("retry-after-ms", milliseconds))


def test_a_wrong_verb_says_which_are_right() -> None:
    assert headers_of(MethodNotAllowed("m", ("GET", "HEAD"))) == (("allow", "GET, HEAD"),)


def test_other_errors_have_no_headers() -> None:
    assert headers_of(ModelError("m")) == headers_of(NotFound("m")) == ()


def test_events() -> None:
    assert sse.event(b'{"a":1}') == b'data: {"a":1}\n\n'
    name, data = sse.error_event(ModelError("two\nlines")).decode().rstrip("\n").split("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: ")) == {"error": "two\nlines"}
