"""The burst's counts are true: answers, refusals, and connections that break."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from burst import burst, post

REQUESTS = [post("/ok", b"12345", "text/plain"), post("/busy", b"", "text/plain")]


class Server:
    """A real HTTP server on loopback that counts what it sent; /busy gets 503, /break ends the connection."""

    def __init__(self) -> None:
        self.sent = {"/ok": 0, "/busy": 0, "/break": 0}
        self.loop = asyncio.new_event_loop()
        server = self.loop.run_until_complete(asyncio.start_server(self.connection, "127.0.0.1", 0))
        self.port: int = server.sockets[0].getsockname()[1]
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.server = server

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split()[1].decode()
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
                self.sent[path] += 1
                if path == "/break":
                    break
                status = "200 OK" if path == "/ok" else "503 Service Unavailable"
                writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}".encode())
        except asyncio.IncompleteReadError:
            pass  # the client has left
        writer.close()
        await writer.wait_closed()

    def close(self) -> None:
        async def end() -> None:
            self.server.close()
            await self.server.wait_closed()

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


def test_answers_and_refusals_are_counted_apart(server: Server) -> None:
    outcome = burst(server.port, REQUESTS, connections=3, seconds=0.2)
    assert (outcome.answered, outcome.failed) == (server.sent["/ok"], server.sent["/busy"])
    assert outcome.answered > 10
    assert 0 < outcome.p50_ms <= outcome.p99_ms < 200
    assert outcome.per_second == pytest.approx(outcome.answered / outcome.seconds)


def test_a_connection_that_breaks_counts_as_a_failure(server: Server) -> None:
    outcome = burst(server.port, [post("/break", b"", "text/plain")], connections=3, seconds=0.2)
    assert (outcome.answered, outcome.failed) == (0, 3)
