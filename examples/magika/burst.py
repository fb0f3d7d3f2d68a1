"""A closed-loop load burst: every connection sends its next request when the last one is answered."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np


class Outcome(msgspec.Struct, frozen=True):
    """What a burst saw. Times are a client's: from writing a request to having read its whole answer."""

    answered: int
    failed: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Answers with status 200 in a second."""
        return self.answered / self.seconds


def post(path: str, body: bytes, content_type: str) -> bytes:
    """One HTTP/1.1 request, ready to be written to a connection that stays open."""
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join([*lines, "", ""]).encode() + body


def burst(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Outcome:
    """Send `requests` (from `post`) to localhost round and round for `seconds`."""
    return asyncio.run(_burst(port, itertools.cycle(requests), connections, seconds))


async def _burst(port: int, requests: Iterator[bytes], connections: int, seconds: float) -> Outcome:
    latencies_s: list[float] = []
    failed = 0
    started = time.perf_counter()

    async def connection() -> None:
        nonlocal failed
        writer = None
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            while (sent := time.perf_counter()) - started < seconds:
                writer.write(next(requests))
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
                if head.startswith(b"http/1.1 200 "):
                    latencies_s.append(time.perf_counter() - sent)
                else:
                    failed += 1
        except (OSError, EOFError):
            failed += 1  # the connection broke, and is not opened again
        finally:
            if writer is not None:
                writer.close()

    await asyncio.gather(*(connection() for _ in range(connections)))
    p50_ms, p99_ms = np.percentile(latencies_s or [np.nan], [50, 99]) * 1e3
    return Outcome(len(latencies_s), failed, time.perf_counter() - started, float(p50_ms), float(p99_ms))
