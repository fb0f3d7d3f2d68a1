"""What the open loop needs of a protocol: somewhere to send numbered requests, without waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

Done = Callable[[int, int, bytes, str], None]
"""``done(token, status, body, failure)``: the answer to the request that was sent as ``token``. Where there is none,
status is 0 and ``failure`` a stable word such as ``reset``; otherwise ``failure`` is empty."""


class Transport(Protocol):
    """Connections to one server. At most one ``done`` for each request that was accepted."""

    opened: int
    """Connections opened so far."""

    @property
    def in_flight(self) -> int:
        """Requests without an answer."""
        ...

    def send(self, token: int, request: int) -> bool:
        """Send the target's request of that number; False, and nothing is sent, when too many are in flight."""
        ...

    def oldest(self) -> int | None:
        """The token, of those without an answer, that was sent first."""
        ...

    def abandon(self, token: int) -> None:
        """Forget a request; there will be no ``done`` for it."""
        ...

    def close(self) -> None:
        """Close every connection; there will be no ``done`` any more."""
        ...


class Target(Protocol):
    """What is asked: a protocol, an address and some requests. One file each in ``targets/``."""

    @property
    def name(self) -> str:
        """Of the protocol, for the report."""
        ...

    @property
    def url(self) -> str:
        """As asked."""
        ...

    @property
    def requests(self) -> int:
        """How many different requests there are; they are sent in turn."""
        ...

    def check(self, body: bytes) -> str | None:
        """What is wrong with the body of a successful answer; None when nothing is."""
        ...

    def open(self, loop: asyncio.AbstractEventLoop, limit: int, done: Done) -> Transport:
        """Connections for one run, with at most ``limit`` requests in flight."""
        ...
