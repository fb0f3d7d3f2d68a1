"""An error at the client is the class that it was at the node."""

import inspect

import pytest

from setpoint.client.exchange import Reply
from setpoint.client.failures import error_from, retry_after_s
from setpoint.core import (
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    ModelError,
    NotFound,
    OverShare,
    QueueFull,
    RefusedError,
    RequestError,
    SetpointError,
    Unauthenticated,
)
from setpoint.core import errors as tree
from setpoint.wire import body_of, headers_of, status_of

LEAVES = [
    one
    for _, one in inspect.getmembers(tree, inspect.isclass)
    if issubclass(one, RequestError | RefusedError | ModelError | tree.InternalError)
]


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.__name__)
@pytest.mark.parametrize("path", [b"/v2/models/m/infer", b"/v1/embeddings"], ids=["v2", "openai"])
def test_every_class_is_mirrored(leaf: type[SetpointError], path: bytes) -> None:
    error = leaf("said so")
    headers = {**dict(headers_of(error)), "setpoint-error": error.kind}
    mirrored = error_from(Reply(status_of(error), headers, bytearray(body_of(error, path))))
    assert mirrored.message == "said so"
    assert type(mirrored) is (InvalidRequest if leaf is RequestError else leaf)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, InvalidRequest), (401, Unauthenticated), (403, Forbidden),
     (404, NotFound), (418, RequestError), (429, OverShare), (500, ModelError),
     (502, RefusedError), (503, RefusedError), (504, DeadlineExceeded), (302, SetpointError)],
)  # fmt: skip
def test_servers_that_say_no_kind_are_judged_by_status(status: int, expected: type[SetpointError]) -> None:
    assert type(error_from(Reply(status, {}, bytearray(b"<html>oh</html>")))) is expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":"a"}', "a"),
        (b'{"error":{"message":"b"}}', "b"),
        (b'{"detail":"c"}', '{"detail":"c"}'),
        (b"plain", "plain"),
        (b"", "the server answered with status 500"),
        (b"[1]", "[1]"),
        (b"\xff", "\ufffd"),
    ],
)
def test_some_message_is_always_there(body: bytes, message: str) -> None:
    assert error_from(Reply(500, {}, bytearray(body))).message == message


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "3", "retry-after-ms": "50"}, 0.05),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_when_to_come_again(headers: dict[str, str], seconds: float | None) -> None:
    reply = Reply(503, {**headers, "setpoint-error": "queue_full"}, bytearray())
    assert retry_after_s(reply) == seconds
    error = error_from(reply)
    assert isinstance(error, QueueFull)
    assert error.retry_after_s == (seconds or 1.0)
