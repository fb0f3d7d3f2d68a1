"""A small HTTP server in a thread that does, path by path, what servers should not; it shares no code with ours."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

STALL_S = 0.2
STALL_EVERY_S = 1.0
CAPACITY_PER_S = 300
_METADATA = {"name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}], "outputs": []}
_OUTPUT = {"name": "y", "datatype": "FP32", "shape": [1], "data": [1.0]}


def answer(body: bytes, status: str = "200 OK", extra: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\n{extra}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Unruly:
    """What the server does; ``seen`` counts requests by path."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}
        self.bodies: list[bytes] = []
        self.connections = 0
        self._stalled_s = time.monotonic()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._one(reader, writer):
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        path = head.split(" ")[1]
        length = next((int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:")), 0)
        self.bodies.append(await reader.readexactly(length))
        number = self.seen[path] = self.seen.get(path, 0) + 1
        act: Callable[..., bytes | None] = getattr(self, path.strip("/").split("/")[-1], self._unknown)
        reply = act(number, writer)
        if reply is not None:
            writer.write(reply)
        return reply is not None and b"HTTP/1.0" not in reply

    def _unknown(self, number: int, writer: asyncio.StreamWriter) -> bytes:
        return answer(b'{"error":"no such path"}', "404 Not Found")

    def fine(self, number: int, writer: asyncio.StreamWriter) -> bytes:
        return answer(b"{}")

    def stall(self, number: int, writer: asyncio.StreamWriter) -> bytes:
        """Now and then everything stands still, as in a pause of a garbage collector."""
        if time.monotonic() - self._stalled_s > STALL_EVERY_S:
            time.sleep(STALL_S)
            self._stalled_s = time.monotonic()
        return answer(b"{}")

    def limited(self, number: int, writer: asyncio.StreamWriter) -> bytes:
        time.sleep(1 / CAPACITY_PER_S)
        return answer(b"{}")

    def refuse(self, number: int, writer: asyncio.StreamWriter) -> bytes:
        status = ("503 Service Unavailable", "429 Too Many Requests")[number % 2]
        return answer(b'{"error":"full"}', status, "retry-after: 1\r\n") if number % 4 else answer(b"{}")

    def broken(self, number: int, writer: asyncio.StreamWriter) -> bytes:
        return answer(b'{"error":"oh"}', "500 Internal Server Error")

    def reset(self, number: int, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    def hangup(self, number: int, writer: asyncio.StreamWriter) -> None:
        writer.close()

    def garbage(self, number: int, writer: asyncio.StreamWriter) -> bytes:
        return b"220 mail.example ESMTP\r\n\r\n"

    def silent(self, number: int, writer: asyncio.StreamWriter) -> bytes:
        return answer(b"{}") if number == 1 else b""

    def old(self, number: int, writer: asyncio.StreamWriter) -> bytes:
        return b"HTTP/1.0 200 OK\r\n\r\n" + b"{}" * 5000  # its end is the connection's

    def pieces(self, number: int, writer: asyncio.StreamWriter) -> bytes:
        interim = b"HTTP/1.1 100 Continue\r\n\r\n"
        return interim + b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"

    def m(self, number: int, writer: asyncio.StreamWriter) -> bytes:
        return answer(json.dumps(_METADATA).encode())

    def infer(self, number: int, writer: asyncio.StreamWriter) -> bytes:
        """Every third answer is right; the others are cut off, or have no outputs."""
        right = json.dumps({"model_name": "m", "outputs": [_OUTPUT]}).encode()
        return answer((right, right[:-9], b'{"outputs":[]}')[number % 3])


@contextlib.contextmanager
def unruly_server() -> Iterator[tuple[str, Unruly]]:
    """Serve until the block ends; gives the URL."""
    server = Unruly()
    loop = asyncio.new_event_loop()
    listener = loop.run_until_complete(asyncio.start_server(server.connected, "127.0.0.1", 0, backlog=1024))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", server
    finally:
        asyncio.run_coroutine_threadsafe(_end(listener), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _end(listener: asyncio.Server) -> None:
    listener.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
