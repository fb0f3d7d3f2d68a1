"""What the client's logic asks of whoever has a network: records and nothing else.

An operation (``operations``) is a generator: it yields a ``Send`` or a ``Pause`` and is sent the ``Reply``, or is
thrown the ``TransportFailure``. So the same logic runs on blocking sockets, on an event loop, and in tests on neither.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from setpoint.core import InvalidConfiguration

T = TypeVar("T")
Part = bytes | memoryview


class Address(msgspec.Struct, frozen=True):
    """Where a node listens.

    Attributes:
        prefix: path below which a proxy has it; empty without.
        tls: the connection is encrypted.
    """

    host: str
    port: int
    prefix: str
    tls: bool

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read ``http://127.0.0.1:8000`` or ``https://models.example/team``.

        Raises:
            InvalidConfiguration: it is no such URL.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidConfiguration(f"expected a URL such as http://127.0.0.1:8000, got {url!r}")
        tls = parts.scheme == "https"
        return cls(parts.hostname, port or (443 if tls else 80), parts.path.rstrip("/"), tls)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Request(msgspec.Struct, frozen=True):
    """One HTTP request.

    Attributes:
        method: ``GET`` or ``POST``.
        path: percent-encoded, below the address's prefix.
        parts: the body, in pieces that are not copied together where they are large.
        headers: beside those that every request has.
        idempotent: whether it may be sent again although nobody knows if it was carried out.
    """

    method: str
    path: str
    parts: tuple[Part, ...] = ()
    headers: dict[str, str] = {}
    idempotent: bool = False


class Send(msgspec.Struct, frozen=True):
    """Send a request and return its reply, before ``deadline_ns`` on the monotonic clock."""

    request: Request
    deadline_ns: int
    streamed: bool = False
    """Return as soon as a successful reply's head is there; its body is read as it comes."""


class Pause(msgspec.Struct, frozen=True):
    """Wait."""

    seconds: float


class Reply(msgspec.Struct, frozen=True):
    """An answer.

    Attributes:
        headers: by name in lower case.
        body: whole, and the receiver's own to keep; empty where it is streamed.
    """

    status: int
    headers: dict[str, str]
    body: bytearray


class TransportFailure(Exception):
    """No answer came.

    Attributes:
        sent: something of the request may have arrived, so that it may have been carried out.
        timed_out: the deadline passed.
    """

    def __init__(self, message: str, *, sent: bool, timed_out: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.timed_out = timed_out


Steps = Generator[Send | Pause, Any, T]
"""An operation that returns a ``T`` in the end."""
