"""Clients that leave, and a server that shuts down: nobody computes for nobody, and nothing accepted is dropped."""

import asyncio
import gc
import weakref

import pytest
from in_memory import Client, chunked, keep, request

from setpoint.node.http import Exchange


def watch(client: Client) -> list[int]:
    """Which requests are told that their client has left."""
    gone: list[int] = []
    for index, exchange in enumerate(client.exchanges):
        exchange.on_disconnect = lambda index=index: gone.append(index)
    return gone


@pytest.mark.parametrize("how", ["leave", "vanish"])
def test_requests_not_yet_answered_are_told_once(how: str) -> None:
    client = Client(keep).send(request() * 4)
    gone = watch(client)
    client.exchanges[0].respond(200, b"0")
    client.exchanges[2].respond(200, b"2")
    getattr(client, how)()
    assert gone == [1, 3]
    client.exchanges[1].respond(200, b"1")
    client.exchanges[3].begin_stream(b"text/plain")
    client.exchanges[3].send(b"x")
    client.exchanges[3].end_stream()
    assert gone == [1, 3]
    assert client.statuses() == [200]
    assert client.server.in_flight == 0
    assert client.server.connections == 0


def test_a_stream_in_progress_is_told() -> None:
    client = Client(keep).send(request())
    gone = watch(client)
    client.exchanges[0].begin_stream(b"text/plain")
    client.exchanges[0].send(b"x")
    client.vanish()
    assert gone == [0]
    client.exchanges[0].send(b"y")
    client.exchanges[0].end_stream()
    assert client.server.in_flight == 0


def test_nobody_is_told_of_a_client_that_has_its_answers() -> None:
    client = Client(keep).send(request())
    gone = watch(client)
    client.exchanges[0].respond(200, b"0")
    client.leave()
    assert gone == []


def test_requests_that_were_never_handled_are_forgotten() -> None:
    client = Client(keep, pipeline_limit=1).send(request() * 10)
    assert client.server.in_flight == 10
    client.vanish()
    assert client.server.in_flight == 0
    assert len(client.exchanges) == 1


@pytest.mark.parametrize("part", [request("/", b"0123456789")[:-5], chunked("/", b"abc")[:-5], b"GET / HT"])
def test_half_a_request_is_not_handled(part: bytes) -> None:
    client = Client().send(part).leave()
    assert not client.exchanges
    assert not client.transport.received
    assert client.server.connections == 0


def test_an_answered_request_waits_for_no_garbage_collector() -> None:
    """Handlers hang their request on the exchange, which holds it in turn: a large body must not live in the ring."""

    class Work:
        def __init__(self, exchange: object) -> None:
            self.exchange = exchange

        def abandon(self) -> None:
            raise AssertionError

    work: list[weakref.ref[Work]] = []

    def handle(exchange: object) -> None:
        ring = Work(exchange)
        work.append(weakref.ref(ring))
        exchange.on_disconnect = ring.abandon  # type: ignore[attr-defined]

    client = Client(handle)
    gc.disable()
    try:
        client.send(request("/0") + request("/1"))
        for exchange in reversed(client.exchanges):
            exchange.respond(200, b"1")
        del exchange
        client.exchanges.clear()
        assert [one() for one in work] == [None, None]
    finally:
        gc.enable()


def test_a_lost_connection_waits_for_no_garbage_collector() -> None:
    client = Client().send(request())
    connection = weakref.ref(client.connection)
    gc.disable()
    try:
        client.leave()
        client.exchanges.clear()
        del client.connection, client.transport
        assert connection() is None
    finally:
        gc.enable()


# --- shutting down ---------------------------------------------------------------------------------------------------


def drained(client: Client, *steps: object, timeout_s: float = 5.0) -> bool:
    """Drain the server of this client while the steps are taken, one for each turn of the loop."""

    async def run() -> bool:
        draining = asyncio.create_task(client.server.drain(timeout_s))
        await asyncio.sleep(0)
        for step in steps:
            step()  # type: ignore[operator]
            client.turn()
            await asyncio.sleep(0)
        for _ in range(300):
            client.turn()
            if draining.done():
                break
            await asyncio.sleep(0.01)
        return await draining

    return asyncio.run(run())


def test_draining_an_idle_server_closes_its_connections() -> None:
    client = Client().send(request())
    assert drained(client)
    assert client.transport.lost


def test_accepted_requests_are_answered_and_the_last_says_close() -> None:
    client = Client(keep).send(request() * 3)
    answers = [lambda index=index: client.exchanges[index].respond(200, b"%d" % index) for index in (1, 2, 0)]
    assert drained(client, *answers)
    assert [response.json for response in client.responses()] == [0, 1, 2]
    assert [response.closes for response in client.responses()] == [False, False, True]
    assert client.transport.lost


def test_requests_in_the_backlog_were_accepted_too() -> None:
    """All in flight ended in one turn once counted as idle, and what waited behind was dropped."""
    client = Client(keep, pipeline_limit=2).send(request() * 5)
    rounds = [
        lambda a=a, b=b: [client.exchanges[i].respond(200, b"%d" % i) for i in (b, a)] for a, b in ((0, 1), (2, 3))
    ]
    assert drained(client, *rounds, lambda: client.exchanges[4].respond(200, b"4"))
    assert [response.json for response in client.responses()] == [0, 1, 2, 3, 4]
    assert client.responses()[-1].closes


def test_pipelined_requests_that_were_read_before_draining_are_served() -> None:
    """They once got a 503 where only the pipeline limit had kept them from being handled in time."""

    def answer_unless_draining(exchange: Exchange) -> None:
        client.server.refuse_while_draining()

    client = Client(answer_unless_draining, pipeline_limit=2)
    client.send(request() * 5)

    def answer(*indices: int) -> None:
        for index in indices:
            client.exchanges[index].respond(200, b"%d" % index)

    def come_late() -> None:
        client.send(request("/late"))

    assert drained(client, lambda: answer(0, 1), lambda: answer(3, 2), come_late, lambda: answer(4))
    assert [response.status for response in client.responses()][:5] == [200] * 5


def test_requests_that_come_while_draining_are_answered_behind_those_in_flight() -> None:
    client = Client(keep).send(request())

    def send() -> None:
        client.send(request())
        client.exchanges[1].respond(503, b'{"error":"draining"}', headers=((b"retry-after", b"1"),))

    assert drained(client, send, lambda: client.exchanges[0].respond(200, b"0"))
    assert [(response.status, response.closes) for response in client.responses()] == [(200, False), (503, True)]


def test_nothing_is_read_behind_an_answer_that_said_close() -> None:
    client = Client(keep).send(request("/0"))

    def answer_then_send() -> None:
        client.exchanges[0].respond(200, b"0")
        client.connection.data_received(request("/late"))

    assert drained(client, answer_then_send)
    assert len(client.exchanges) == 1


def test_draining_gives_up_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("setpoint.node.http.server._FLUSH_S", 0.01)
    client = Client(keep).send(request())
    gone = watch(client)
    assert not drained(client, timeout_s=0.05)
    assert gone == [0]
    assert client.server.in_flight == 0


def test_draining_lets_slow_readers_finish() -> None:
    client = Client(client_reads=False).send(request("/" + "a" * 20_000))

    def read_at_last() -> None:
        assert not client.transport.lost
        client.transport.client_reads_now()

    assert drained(client, *[lambda: None] * 5, read_at_last)
    assert client.statuses() == [200]
