"""The one place where errors become gRPC."""

from __future__ import annotations

from setpoint.core import (
    BundleNotFound,
    ConfigurationError,
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
)
from setpoint.wire.errors import retry_after_ms

INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
NOT_FOUND = 5
PERMISSION_DENIED = 7
RESOURCE_EXHAUSTED = 8
FAILED_PRECONDITION = 9
UNIMPLEMENTED = 12
INTERNAL = 13
UNAVAILABLE = 14
UNAUTHENTICATED = 16

_CODES: tuple[tuple[type[SetpointError], int], ...] = (
    (NotFound, NOT_FOUND),
    (BundleNotFound, NOT_FOUND),
    (Unauthenticated, UNAUTHENTICATED),
    (Forbidden, PERMISSION_DENIED),
    (MethodNotAllowed, UNIMPLEMENTED),
    (RequestTimeout, DEADLINE_EXCEEDED),
    (RequestTooLarge, RESOURCE_EXHAUSTED),
    (RequestError, INVALID_ARGUMENT),
    (DeadlineExceeded, DEADLINE_EXCEEDED),
    (OverShare, RESOURCE_EXHAUSTED),
    (RefusedError, UNAVAILABLE),
    (ConfigurationError, FAILED_PRECONDITION),
)


def code_of(error: SetpointError) -> int:
    """The gRPC status code of an error. A full queue is UNAVAILABLE, as in Triton, which clients retry by default."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), INTERNAL)


def trailers_of(error: SetpointError) -> tuple[tuple[str, str], ...]:
    """Trailing metadata of an error: its kind, and when to come back."""
    trailers = (("setpoint-error", error.kind),)
    if isinstance(error, RefusedError):
        return (*trailers, retry_after_ms(error))
    return trailers
