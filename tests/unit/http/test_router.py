"""Routes by whole path: what is not there is said with the nearest thing that is."""

import time

import pytest
from in_memory import Client, request

from setpoint.core import MethodNotAllowed, NotFound
from setpoint.node.http import Exchange
from setpoint.node.router import Router


@pytest.fixture
def router() -> Router:
    router = Router()
    for path in ("/", "/v2", "/metrics", "/v2/models/iris", "/v2/models/été", "/v2/models/a b"):
        router.add("GET", path, lambda exchange, path=path: exchange.respond(200, path.encode()))
    router.add("POST", "/v2/models/iris/infer", lambda exchange: exchange.respond(200, b"inferred"))
    return router


def ask(router: Router, target: str, method: str = "GET") -> bytes:
    client = Client(router.route).send(request(target, method=method))
    assert client.statuses([method.encode()]) == [200]
    return client.responses([method.encode()])[0].body


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/v2", "/v2"),
        ("/v2/", "/v2"),
        ("/v2?x=/metrics", "/v2"),
        ("/", "/"),
        ("/?", "/"),
        ("/%76%32", "/v2"),
        ("/v2/models/%C3%A9t%c3%a9", "/v2/models/été"),
        ("/v2/models/a%20b", "/v2/models/a b"),
        ("http://other.test:1/v2/models/iris", "/v2/models/iris"),
    ],
)
def test_paths_that_are_found(router: Router, target: str, path: str) -> None:
    assert ask(router, target).decode() == path


@pytest.mark.parametrize(
    "target",
    [
        "//v2",
        "/v2//",
        "/./v2",
        "/x/../v2",
        "/x/%2e%2e/v2",
        "/V2",
        "/v2%00",
        "/v2%2Fmodels%2Firis",
        "/v2/models%2firis",
        "/v2/models/iris%2f",
        "/%2576%2532",
        "/v2/models/a+b",
        "/v2/models/%",
        "/v2/models/%zz",
        "/v2/models/%ff%fe",
        "/v2;x",
        "*",
    ],
)
def test_tricks_with_paths_find_nothing(router: Router, target: str) -> None:
    with pytest.raises(NotFound):
        router.route(exchange(target))


def exchange(target: str, method: str = "GET") -> Exchange:
    (found,) = Client(lambda _: None).send(request(target, method=method)).exchanges
    return found


def test_the_nearest_route_is_named(router: Router) -> None:
    with pytest.raises(NotFound, match=r"nothing is served at /v2/model/iris; did you mean /v2/models/iris\?"):
        router.route(exchange("/v2/model/iris"))
    with pytest.raises(NotFound, match=r"; GET /docs lists what there is"):
        router.route(exchange("/zzzzzzzz"))


def test_a_long_path_is_not_repeated_whole(router: Router) -> None:
    with pytest.raises(NotFound) as refused:
        router.route(exchange("/" + "a" * 20_000))
    assert len(refused.value.message) < 400


def test_a_wrong_verb_names_the_right_ones(router: Router) -> None:
    with pytest.raises(MethodNotAllowed, match="DELETE is not allowed on /v2; use GET or HEAD") as refused:
        router.route(exchange("/v2", "DELETE"))
    assert refused.value.allowed == ("GET", "HEAD")
    with pytest.raises(MethodNotAllowed, match="use POST"):
        router.route(exchange("/v2/models/iris/infer"))


def test_head_is_answered_as_get(router: Router) -> None:
    assert ask(router, "/v2", "HEAD") == b""


def test_mistyped_paths_cost_little_however_many_routes_there_are() -> None:
    """Comparing with every route cost 50 ms for a thousand of them: a client with a typing error stopped the node."""
    router = Router()
    for model in range(250):
        for verb in ("infer", "ready", "", "versions/1"):
            router.add("GET", f"/v2/models/model{model}/{verb}", lambda exchange: None)
    mistyped = exchange("/v2/models/mode7/infer")
    begun_s = time.process_time()
    for _ in range(20):
        with pytest.raises(NotFound, match=r"did you mean /v2/models/model\d+/infer"):
            router.route(mistyped)
    assert (time.process_time() - begun_s) / 20 < 0.02
