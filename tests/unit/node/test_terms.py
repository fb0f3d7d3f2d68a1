"""What clients may ask for in headers, and how what they must not is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.core import InvalidRequest
from setpoint.node.terms import read_terms, v2_priority
from setpoint.worker import CallRequest


def _request() -> CallRequest:
    return CallRequest("predict", 1, None, b"", raw=False)


def test_a_request_that_says_nothing_keeps_its_defaults() -> None:
    request = _request()
    read_terms({b"host": b"x"}, request)
    assert (request.timeout_ns, request.priority, request.tenant) == (0, 0, "")


def test_terms_are_read() -> None:
    request = _request()
    headers = {b"setpoint-timeout-ms": b"12.5", b"setpoint-priority": b"1", b"setpoint-tenant": b"acme"}
    read_terms(headers, request)
    assert (request.timeout_ns, request.priority, request.tenant) == (12_500_000, -1, "acme")


def test_what_a_proxy_says_of_its_patience_counts() -> None:
    request = _request()
    read_terms({b"x-envoy-expected-rq-timeout-ms": b"15000"}, request)
    assert request.timeout_ns == 15_000_000_000


@pytest.mark.parametrize("value", [b"0", b"-1", b"nan", b"inf", b"soon", b"1e300"])
def test_an_impossible_timeout_is_refused_with_what_was_expected(value: bytes) -> None:
    with pytest.raises(InvalidRequest, match="milliseconds above 0"):
        read_terms({b"setpoint-timeout-ms": value}, _request())


@given(st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=80))
def test_any_header_is_read_or_refused_as_the_client_s_mistake(timeout: bytes, priority: bytes, tenant: bytes) -> None:
    request = _request()
    headers = {b"setpoint-timeout-ms": timeout, b"setpoint-priority": priority, b"setpoint-tenant": tenant}
    try:
        read_terms(headers, request)
    except InvalidRequest:
        return
    assert request.timeout_ns >= 0
    assert -1 <= request.priority <= 7


def test_v2_priority_0_is_the_default_and_1_is_above_it() -> None:
    assert v2_priority(1) < v2_priority(0) == 0 < v2_priority(3)
    assert v2_priority(2**63) == v2_priority(9)
