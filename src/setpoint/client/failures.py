"""A node's errors as the classes that they were there, and what may be tried again."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from setpoint.client.exchange import Reply
from setpoint.core import (
    DeadlineExceeded,
    Forbidden,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    ModelError,
    NotFound,
    OverShare,
    RefusedError,
    RequestError,
    RequestTimeout,
    RequestTooLarge,
    SetpointError,
    Unauthenticated,
    UnsupportedMedia,
    WorkerLost,
    error_of,
)

KIND_HEADER = "setpoint-error"
_BY_STATUS: dict[int, type[SetpointError]] = {
    400: InvalidRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    408: RequestTimeout,
    413: RequestTooLarge,
    415: UnsupportedMedia,
    429: OverShare,
    431: RequestTooLarge,
    500: ModelError,
    504: DeadlineExceeded,
}
"""Where nobody says the kind: another server, or a proxy between."""
_WERE_RUN = (WorkerLost, DeadlineExceeded)
"""Refusals of requests that a worker may have held, or that came too late."""
_EXCERPT_CHARACTERS = 300


def error_from(reply: Reply) -> SetpointError:
    """The error that a reply tells: the node's own class, message and time to come again."""
    message = _message(bytes(reply.body)) or f"the server answered with status {reply.status}"
    kind = reply.headers.get(KIND_HEADER, "")
    error = error_of(kind, message)
    if isinstance(error, InternalError) and kind != InternalError.kind:
        by_class = RequestError if 400 <= reply.status < 500 else RefusedError if reply.status in (502, 503) else None
        error = _BY_STATUS.get(reply.status, by_class or SetpointError)(message)
    if isinstance(error, RefusedError):
        error.retry_after_s = retry_after_s(reply) or error.retry_after_s
    return error


def may_come_again(reply: Reply, error: SetpointError) -> bool:
    """Whether the request was refused before it ran, by a server that says when to come again."""
    return reply.status in (429, 503) and retry_after_s(reply) is not None and not isinstance(error, _WERE_RUN)


def retry_after_s(reply: Reply) -> float | None:
    """What ``Retry-After`` says in seconds, to the millisecond where the server does; None without, or for a date."""
    for header, unit_s in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(reply.headers.get(header, "")) * unit_s
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return None


def _message(body: bytes) -> str:
    try:
        error: Any = msgspec.json.decode(body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (msgspec.MsgspecError, KeyError, TypeError, UnicodeDecodeError):
        return body.decode("utf-8", "replace").strip()[:_EXCERPT_CHARACTERS]
