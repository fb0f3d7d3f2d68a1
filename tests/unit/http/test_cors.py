"""Pages of other origins: nobody's without a word, and then only those that were named."""

import pytest
from in_memory import Client, request

from setpoint.core import InvalidConfiguration
from setpoint.node.http import Cors, Exchange, check_origins

APP = "https://app.example.com"


def client(*origins: str) -> Client:
    def handle(exchange: Exchange) -> None:
        exchange.lines += b"setpoint-model: a@b\r\n"
        exchange.respond(200, b"1")

    return Client(Cors(origins, handle).handle)


def preflight(origin: str, *headers: str, method: str = "POST") -> bytes:
    asks = ("origin: " + origin, f"access-control-request-method: {method}", *headers)
    return request("/v2/models/iris/infer", None, *asks, method="OPTIONS")


def test_a_page_may_ask_and_read_what_it_was_allowed_to() -> None:
    (response,) = client(APP).send(request("/", None, f"origin: {APP}")).responses()
    assert response.status == 200
    assert response.headers[b"access-control-allow-origin"] == APP.encode()
    assert response.headers[b"timing-allow-origin"] == APP.encode()
    assert {b"server-timing", b"retry-after", b"retry-after-ms", b"setpoint-error"} <= set(
        response.headers[b"access-control-expose-headers"].split(b", ")
    )
    assert response.headers[b"vary"] == b"origin"
    assert response.headers[b"setpoint-model"] == b"a@b"


def test_a_preflight_is_answered_without_the_handler() -> None:
    message = preflight(APP, "access-control-request-headers: content-type,X-Request-Id")
    (response,) = client("https://other.example", APP).send(message).responses()
    assert (response.status, response.body) == (204, b"")
    assert b"content-length" not in response.headers
    assert response.headers[b"access-control-allow-origin"] == APP.encode()
    assert b"POST" in response.headers[b"access-control-allow-methods"]
    assert response.headers[b"access-control-allow-headers"] == b"content-type,X-Request-Id"
    assert int(response.headers[b"access-control-max-age"]) > 0
    assert b"setpoint-model" not in response.headers


def test_everybody_may() -> None:
    (response,) = client("*").send(request("/", None, f"origin: {APP}")).responses()
    assert response.headers[b"access-control-allow-origin"] == b"*"
    assert b"vary" not in response.headers


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", f"{APP}.evil.example", f"{APP}:444", "http://app.example.com"]
)
def test_other_pages_may_not(origin: str) -> None:
    tester = client(APP).send(request("/", None, f"origin: {origin}"), preflight(origin))
    plain, refused = tester.responses()
    assert plain.status == 200  # what browsers do not ask about is no safer for being refused, but cannot be read
    assert refused.status == 403
    assert refused.headers[b"setpoint-error"] == b"forbidden"
    for response in (plain, refused):
        assert b"access-control-allow-origin" not in response.headers
        assert response.headers[b"vary"] == b"origin"


def test_without_an_origin_nothing_changes() -> None:
    (response,) = client(APP).send(request()).responses()
    assert b"access-control-allow-origin" not in response.headers
    assert response.headers[b"vary"] == b"origin"


def test_options_that_are_no_preflight_go_on() -> None:
    (response,) = client(APP).send(request("/", None, f"origin: {APP}", method="OPTIONS")).responses()
    assert (response.status, response.body) == (200, b"1")


@pytest.mark.parametrize("names", ["a: b", "x" * 1100, "a;b", "\xff"])
def test_names_that_are_none_are_not_echoed(names: str) -> None:
    head = preflight(APP, "access-control-request-headers: NAMES").replace(b"NAMES", names.encode("latin-1"))
    (response,) = client(APP).send(head).responses()
    assert response.status == 204
    assert b"access-control-allow-headers" not in response.headers


@pytest.mark.parametrize("origin", ["https://app.example.com", "http://localhost:3000", "https://[::1]:8443", "*"])
def test_origins(origin: str) -> None:
    check_origins((origin,))


@pytest.mark.parametrize(
    "origin", ["", "app.example.com", "https://app.example.com/", "https://a b", "ftp://x", "null", "https://*"]
)
def test_what_is_no_origin_is_a_mistake_of_the_operator(origin: str) -> None:
    with pytest.raises(InvalidConfiguration, match="--cors-origin takes"):
        check_origins((origin,))
