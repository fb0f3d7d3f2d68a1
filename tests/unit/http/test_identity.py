"""Who a request is: its id and its trace, on every answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_memory import Client, keep, request

from setpoint.node.http import Exchange
from setpoint.node.http.identity import trace_context

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"


def header(name: str, *headers: str) -> list[bytes | None]:
    """That header of the answer to a request with these, answered whole and as a stream."""

    def handle(exchange: Exchange) -> None:
        if exchange.path == b"/stream":
            exchange.begin_stream(b"text/plain")
            exchange.end_stream()
        else:
            exchange.respond(200, b"1")

    client = Client(handle).send(request("/whole", None, *headers), request("/stream", None, *headers))
    return [response.headers.get(name.encode()) for response in client.responses()]


# --- request ids -----------------------------------------------------------------------------------------------------


def test_the_clients_id_comes_back() -> None:
    assert header("x-request-id", "X-Request-Id: a1-B2_c3/d4") == [b"a1-B2_c3/d4"] * 2


@pytest.mark.parametrize("given", ["", "a b", "a" * 129, "ä", "a\tb"])
def test_an_id_that_is_none_is_replaced(given: str) -> None:
    for value in header("x-request-id", f"x-request-id: {given}"):
        assert value is not None
        assert value != given.encode("utf-8")
        assert value.isascii()


def test_made_ids_are_different() -> None:
    client = Client().send(request() * 100)
    assert len({response.headers[b"x-request-id"] for response in client.responses()}) == 100


def test_refusals_have_an_id_too() -> None:
    client = Client().send(request() + b"garbage\r\n\r\n")
    assert [b"x-request-id" in response.headers for response in client.responses()] == [True, True]


def test_the_id_may_be_read_before_the_answer() -> None:
    client = Client(keep).send(request())
    (exchange,) = client.exchanges
    known = exchange.request_id
    exchange.respond(200, b"1")
    assert client.responses()[0].headers[b"x-request-id"] == known


# --- traces ----------------------------------------------------------------------------------------------------------


def test_a_trace_is_answered_with_a_span_of_ours() -> None:
    values = header("traceresponse", f"traceparent: {TRACEPARENT}")
    spans = set()
    for value in values:
        version, trace_id, span_id, flags = (value or b"").split(b"-")
        assert (version, trace_id, flags) == (b"00", TRACE_ID.encode(), b"01")
        spans.add(span_id)
    assert len(spans - {PARENT_ID.encode()}) == 2


def test_without_a_trace_there_is_none() -> None:
    assert header("traceresponse") == [None, None]
    client = Client(keep).send(request())
    assert client.exchanges[0].trace is None


def test_a_handler_sees_the_trace_and_can_pass_it_on() -> None:
    client = Client(keep).send(request("/", None, f"Traceparent: {TRACEPARENT}", "tracestate: a=1", "tracestate: b=2"))
    trace = client.exchanges[0].trace
    assert trace is not None
    assert (trace.parent_id, trace.state, trace.flags) == (PARENT_ID.encode(), b"a=1,b=2", b"01")
    assert trace.traceparent == b"00-%b-%b-01" % (TRACE_ID.encode(), trace.span_id)
    assert client.exchanges[0].trace is trace


MALFORMED = [
    "",
    "00",
    TRACEPARENT + "-more",
    TRACEPARENT + "-",
    TRACEPARENT[:-1],
    TRACEPARENT.upper(),
    "ff" + TRACEPARENT[2:],
    "0" + TRACEPARENT,
    f"00-{'0' * 32}-{PARENT_ID}-01",
    f"00-{TRACE_ID}-{'0' * 16}-01",
    f"00-{TRACE_ID}-{PARENT_ID}-0g",
    f"00_{TRACE_ID}_{PARENT_ID}_01",
    f"cc-{TRACE_ID}-{PARENT_ID}-01.x",
]


@pytest.mark.parametrize("traceparent", MALFORMED)
def test_a_malformed_trace_counts_as_none(traceparent: str) -> None:
    assert header("traceresponse", f"traceparent: {traceparent}", "tracestate: a=1") == [None, None]


def test_two_traces_count_as_none() -> None:
    assert header("traceresponse", *[f"traceparent: {TRACEPARENT}"] * 2) == [None, None]


@pytest.mark.parametrize("rest", ["", "-", "-what-comes-then"])
def test_a_later_version_is_read_as_far_as_it_is_known(rest: str) -> None:
    trace = trace_context(f"cc-{TRACE_ID}-{PARENT_ID}-ff{rest}".encode())
    assert trace is not None
    assert (trace.trace_id, trace.flags) == (TRACE_ID.encode(), b"01")


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ("a=1", "a=1"),
        ("a=1 ,\tb=2, ,c=3", "a=1,b=2,c=3"),
        ("tenant@vendor=x y", "tenant@vendor=x y"),
        ("A=1", ""),
        ("a=1,b", ""),
        ("a=1=2", ""),
        (",".join(f"k{n}=v" for n in range(33)), ""),
        (",".join(f"k{n}={'v' * 100}" for n in range(9)), ",".join(f"k{n}={'v' * 100}" for n in range(4))),
    ],
)
def test_the_state_of_vendors_is_passed_on_if_it_is_well_formed(state: str, kept: str) -> None:
    trace = trace_context(TRACEPARENT.encode(), state.encode())
    assert trace is not None
    assert trace.state == kept.encode()


@given(st.one_of(st.binary(max_size=80), st.from_regex(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.{0,9}")))
def test_any_bytes_are_a_trace_or_none(traceparent: bytes) -> None:
    trace = trace_context(traceparent, traceparent)
    assert trace is None or trace_context(trace.traceparent) is not None
