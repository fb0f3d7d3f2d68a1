"""Long readings and writings on the event loop, a slice at a time: everybody else has their turn in between.

Why not a thread: what takes long here holds Python's lock most of the time or is a millisecond a slice, and work on the
loop stops at once where its client leaves.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from setpoint.core import SetpointError
from setpoint.node.http import Exchange, respond_error

T = TypeVar("T")


class Slices:
    """Runs generators that yield about once a millisecond; one after the other, so that few large bodies are open."""

    def __init__(self, bug: Callable[[BaseException], SetpointError]) -> None:
        """Nothing runs yet.

        Args:
            bug: logs a bug of ours; returns what the client is told of it.
        """
        self._bug = bug
        self._waiting: deque[tuple[Exchange, Generator[None, None, Any], Callable[[Any], None]]] = deque()
        self._running = False

    def run(self, exchange: Exchange, work: Generator[None, None, T], then: Callable[[T], None]) -> None:
        """Run ``work`` to its end and give what it returns to ``then``: at once, if one slice is enough.

        An error of either is the answer to the exchange. Where the client leaves meanwhile, nothing more is done.

        Raises:
            SetpointError: the first slice failed, or ``then`` behind it.
        """
        try:
            next(work)
        except StopIteration as done:
            then(done.value)
            return
        exchange.on_disconnect = work.close
        self._waiting.append((exchange, work, then))
        if not self._running:
            self._running = True
            asyncio.get_running_loop().call_soon(self._slice)

    def _slice(self) -> None:
        exchange, work, then = self._waiting[0]
        try:
            next(work)
        except StopIteration as done:
            self._waiting.popleft()
            if exchange.on_disconnect is not None:  # a client that has left closed the generator, which ends it too
                exchange.on_disconnect = None
                self._guarded(exchange, then, done.value)
        except Exception as error:
            self._waiting.popleft()
            self._fail(exchange, error)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._slice)
        else:
            self._running = False

    def _guarded(self, exchange: Exchange, then: Callable[[Any], None], value: Any) -> None:
        try:
            then(value)
        except Exception as error:
            self._fail(exchange, error)

    def _fail(self, exchange: Exchange, error: Exception) -> None:
        """The boundary, as ``HttpServer.handle`` is for what is answered at once."""
        respond_error(exchange, error if isinstance(error, SetpointError) else self._bug(error))
