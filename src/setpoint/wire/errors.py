"""The one place where errors become HTTP."""

from __future__ import annotations

import math

import msgspec

from setpoint.core import (
    DeadlineExceeded,
    MethodNotAllowed,
    NotFound,
    RefusedError,
    RequestError,
    RequestTimeout,
    RequestTooLarge,
    SetpointError,
    UnsupportedMedia,
)

_STATUS: dict[type[SetpointError], int] = {
    NotFound: 404,
    MethodNotAllowed: 405,
    RequestTimeout: 408,
    UnsupportedMedia: 415,
    DeadlineExceeded: 504,
}


def status_of(error: SetpointError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, RequestTooLarge):
        return 431 if error.header else 413
    if (status := _STATUS.get(type(error))) is not None:
        return status
    if isinstance(error, RequestError):
        return 400
    if isinstance(error, RefusedError):
        return 503
    return 500


def headers_of(error: SetpointError) -> tuple[tuple[str, str], ...]:
    """Extra response headers of an error: when to come back, which verbs there are."""
    if isinstance(error, RefusedError):
        return (("retry-after", str(max(1, math.ceil(error.retry_after_s)))),)
    if isinstance(error, MethodNotAllowed):
        return (("allow", ", ".join(error.allowed)),)
    return ()


def body_of(error: SetpointError) -> bytes:
    """``{"error": "…"}``: a string, as Open Inference Protocol clients expect it."""
    return msgspec.json.encode({"error": error.message})
