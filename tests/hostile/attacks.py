"""What an attack is: bytes to send, how to send them, and what may come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hostile.responses import Response

Check = Callable[[Response], str]
"""What is wrong with a response; empty when nothing is."""


def status(*allowed: int) -> Check:
    """Only these statuses will do. A 200 among them must hold JSON, text or HTML."""

    def check(response: Response) -> str:
        if response.status not in allowed:
            return f"status {response.status}, expected {' or '.join(map(str, allowed))}: {response.body[:300]!r}"
        return ""

    return check


refused = status(400)


@dataclass(frozen=True)
class Message:
    """One request that is well-formed HTTP, whatever its content, so that it gets exactly one response."""

    kind: str
    payload: bytes
    check: Check
    method: bytes = b"POST"


@dataclass(frozen=True)
class Conversation:
    """Messages on one connection, sent ahead of their answers.

    Attributes:
        cuts: where the bytes are cut into packets; between two, ``pause_s`` passes.
    """

    kind: str
    messages: tuple[Message, ...]
    cuts: tuple[int, ...] = ()
    pause_s: float = 0.0


@dataclass(frozen=True)
class Broken:
    """Bytes that may be no HTTP at all, on a connection of their own, which the client half-closes behind them.

    Whatever is answered must be whole and allowed, and the node must close.
    """

    kind: str
    payload: bytes
    allowed: Check = field(default=refused)
    answers: int | None = None
    methods: tuple[bytes, ...] = ()
    pause_s: float = 0.0
    cuts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Leave:
    """Bytes, and then the client is gone: at once, by a reset, or after it has read a little."""

    kind: str
    payload: bytes
    reset: bool = False
    after_s: float = 0.0


Attack = Message | Conversation | Broken | Leave
