"""On what terms a client asks: how long it waits, how urgent it is, on whose behalf it comes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from setpoint.core import InvalidRequest
from setpoint.wire import InferRequest
from setpoint.worker import Request

TIMEOUT_HEADER = b"setpoint-timeout-ms"
PRIORITY_HEADER = b"setpoint-priority"
TENANT_HEADER = b"setpoint-tenant"
_ENVOY_TIMEOUT_HEADER = b"x-envoy-expected-rq-timeout-ms"
"""What Envoy, Istio and Contour tell a server of how long they will wait for it."""
_HEADERS = frozenset((TIMEOUT_HEADER, _ENVOY_TIMEOUT_HEADER, PRIORITY_HEADER, TENANT_HEADER))
LOWEST_PRIORITY = 9
_DEFAULT_PRIORITY = 2
"""What priority 0, and none, stand for in V2's counting: one level is above it, the others are below."""
_TENANT_LIMIT_CHARACTERS = 64
_LONGEST_TIMEOUT_MS = 86_400_000.0


def v2_priority(priority: int) -> int:
    """The scheduler's level of a V2 priority: 1 is the most urgent, 0 is the default; beyond the lowest is the lowest.

    Source: Triton, ``schedule_policy`` extension.
    """
    return min(priority, LOWEST_PRIORITY) - _DEFAULT_PRIORITY if priority > 0 else 0


def read_terms(headers: Mapping[bytes, bytes], request: Request) -> None:
    """Set a request's ``timeout_ns``, ``priority`` and ``tenant`` from HTTP headers; what is not said stays as it is.

    Raises:
        InvalidRequest: a header holds no such value.
    """
    if _HEADERS.isdisjoint(headers):
        return
    timeout = headers.get(TIMEOUT_HEADER) or headers.get(_ENVOY_TIMEOUT_HEADER)
    if timeout is not None:
        request.timeout_ns = _timeout_ns(timeout)
    priority = headers.get(PRIORITY_HEADER)
    if priority is not None:
        if not (priority.isdigit() and len(priority) <= 2):
            raise InvalidRequest(
                f"header {PRIORITY_HEADER.decode()}: expected a whole number, 1 for the most urgent, up to "
                f"{LOWEST_PRIORITY}, got {_shown(priority)}"
            )
        request.priority = v2_priority(int(priority))
    tenant = headers.get(TENANT_HEADER)
    if tenant is not None:
        if len(tenant) > _TENANT_LIMIT_CHARACTERS:
            raise InvalidRequest(
                f"header {TENANT_HEADER.decode()}: a tenant's name has at most {_TENANT_LIMIT_CHARACTERS} characters, "
                f"got {len(tenant)}"
            )
        request.tenant = tenant.decode("latin-1")


def take_v2_terms(asked: InferRequest, request: Request) -> None:
    """Set what a V2 request's parameters ask for; they count over what headers say, since they are the client's own."""
    if asked.timeout_ns:
        request.timeout_ns = asked.timeout_ns
    if asked.priority:
        request.priority = v2_priority(asked.priority)


def _timeout_ns(text: bytes) -> int:
    try:
        timeout_ms = float(text)
    except ValueError:
        timeout_ms = math.nan
    if not 0 < timeout_ms <= _LONGEST_TIMEOUT_MS:
        raise InvalidRequest(
            f"header {TIMEOUT_HEADER.decode()}: expected milliseconds above 0, up to a day, got {_shown(text)}"
        )
    return max(1, int(timeout_ms * 1e6))


def _shown(value: bytes) -> str:
    return repr(value[:40].decode("latin-1"))
