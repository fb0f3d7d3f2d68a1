"""A target of prepared POST requests over HTTP/1.1; what the HTTP protocols have in common."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import SplitResult

import msgspec

from setpoint.core import InvalidConfiguration, NotReady
from setpoint.plan.load.http import HttpTransport
from setpoint.plan.load.transport import Done, Transport

JSON = "application/json"
Check = Callable[[bytes], str | None]


class Posts(msgspec.Struct, frozen=True):
    """See ``transport.Target``. Nothing is resolved, built or encoded during a run."""

    name: str
    url: str
    address: tuple[str, int]
    messages: tuple[bytes, ...]
    checker: Check

    @property
    def requests(self) -> int:
        """How many different requests there are."""
        return len(self.messages)

    def check(self, body: bytes) -> str | None:
        """What is wrong with an answer."""
        return self.checker(body)

    def open(self, loop: asyncio.AbstractEventLoop, limit: int, done: Done) -> Transport:
        """Connections for one run."""
        return HttpTransport(loop, self.address, self.messages, limit, done)


def make_posts(
    name: str, url: SplitResult, path: str, bodies: Sequence[bytes], headers: Mapping[str, str], check: Check
) -> Posts:
    """Encode the requests.

    Raises:
        NotReady: the host's name is not known.
        InvalidConfiguration: a header cannot be sent.
    """
    assert url.hostname is not None
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    lines = [f"POST {path} HTTP/1.1", f"host: {host}" + (f":{url.port}" if url.port else "")]
    for header, value in headers.items():
        if any(character in header + value for character in "\r\n\0"):
            raise InvalidConfiguration(f"header {header!r} has a line break in it")
        lines.append(f"{header}: {value}")
    head = "\r\n".join(lines).encode("latin-1", "replace")
    messages = tuple(b"%b\r\ncontent-length: %d\r\n\r\n%b" % (head, len(body), body) for body in bodies)
    return Posts(name, f"http://{url.netloc}{path}", _address(url), messages, check)


def valid_json(body: bytes) -> str | None:
    """What is wrong with a body that should be JSON."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        return f"the answer is not JSON: {error}"
    return None


def anything(_body: bytes) -> str | None:
    """No opinion: of an unknown protocol only the status is judged."""
    return None


def _address(url: SplitResult) -> tuple[str, int]:
    """The first address of the host that takes a connection: names are looked up once, not for each connection."""
    assert url.hostname is not None
    port = url.port or 80
    try:
        found = socket.getaddrinfo(url.hostname, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NotReady(f"{url.hostname} cannot be looked up: {error.strerror or error}") from error
    failure: OSError | None = None
    for family, kind, _, _, address in found:
        with socket.socket(family, kind) as trial:
            trial.settimeout(5)
            try:
                trial.connect(address)
            except OSError as error:
                failure = error
                continue
            return str(address[0]), port
    raise NotReady(f"nothing answers at {url.hostname}:{port}: {failure}") from failure
