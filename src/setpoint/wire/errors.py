"""The one place where errors become HTTP."""

from __future__ import annotations

import math

import msgspec

from setpoint.core import (
    DeadlineExceeded,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    OverShare,
    RefusedError,
    RequestError,
    RequestTimeout,
    RequestTooLarge,
    SetpointError,
    Unauthenticated,
    UnsupportedMedia,
)
from setpoint.wire.openai_errors import OPENAI_PREFIX, openai_error_body

_STATUS: dict[type[SetpointError], int] = {
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    MethodNotAllowed: 405,
    RequestTimeout: 408,
    UnsupportedMedia: 415,
    OverShare: 429,
    DeadlineExceeded: 504,
}


def status_of(error: SetpointError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, RequestTooLarge):
        return 431 if error.header else 413
    for kind in type(error).__mro__:  # a wire's own kind of NotFound is one too
        if (status := _STATUS.get(kind)) is not None:
            return status
    if isinstance(error, RequestError):
        return 400
    if isinstance(error, RefusedError):
        return 503
    return 500


def headers_of(error: SetpointError) -> tuple[tuple[str, str], ...]:
    """Extra response headers of an error: when to come back, which verbs there are."""
    if isinstance(error, RefusedError):
        # Whole seconds are what HTTP has; a load that passes in 50 ms deserves the second header, which SDKs read too.
        return (("retry-after", str(max(1, math.ceil(error.retry_after_s)))), retry_after_ms(error))
    if isinstance(error, MethodNotAllowed):
        return (("allow", ", ".join(error.allowed)),)
    if isinstance(error, Unauthenticated):
        return (("www-authenticate", "Bearer"),)
    return ()


def retry_after_ms(error: RefusedError) -> tuple[str, str]:
    """When to come back, as HTTP's header and gRPC's metadata say it."""
    return "retry-after-ms", str(max(1, math.ceil(error.retry_after_s * 1e3)))


def body_of(error: SetpointError, path: bytes = b"") -> bytes:
    """``{"error": "…"}``: a string, as Open Inference Protocol clients expect it; below ``/v1/`` as OpenAI's do."""
    if path.startswith(OPENAI_PREFIX):
        return openai_error_body(error, status_of(error), path)
    return msgspec.json.encode({"error": error.message})
