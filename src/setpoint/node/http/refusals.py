"""What a client is told that went beyond a limit, in either version of HTTP."""

from __future__ import annotations

from setpoint.core import Limits, RefusedError, RequestTimeout, RequestTooLarge


def body_too_large(limits: Limits) -> RequestTooLarge:
    """413."""
    return RequestTooLarge(
        f"the request's body is larger than the limit of {limits.body_limit_bytes} bytes (--max-body)"
    )


def header_too_large(limits: Limits) -> RequestTooLarge:
    """431."""
    return RequestTooLarge(
        f"the request's headers are larger than the limit of {limits.header_limit_bytes} bytes", header=True
    )


def too_many_headers(limits: Limits) -> RequestTooLarge:
    """431."""
    return RequestTooLarge(
        f"the request has more headers than the limit of {limits.header_count_limit}; send fewer", header=True
    )


def header_too_slow(limits: Limits) -> RequestTimeout:
    """408."""
    return RequestTimeout(f"the request's headers took longer than {limits.header_timeout_s:g} s")


def too_many_bodies(limits: Limits) -> RefusedError:
    """503: no fault of this client's, so it may come again."""
    return RefusedError(
        f"the bodies of all requests in flight are larger than the node's limit of {limits.bodies_limit_bytes} bytes"
    )


def too_many_streams(limits: Limits) -> RefusedError:
    """503."""
    return RefusedError(f"the node's limit of {limits.stream_limit} streams at once is reached")
