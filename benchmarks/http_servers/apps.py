"""The echo as an ASGI application (uvicorn, granian) and as an RSGI one (granian)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from echo import answer

Message = dict[str, Any]


async def asgi(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """ASGI 3; HTTP only: a `lifespan` scope is refused, which the protocol allows."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    chunks = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    payload = answer(scope["path"], chunks[0] if len(chunks) == 1 else b"".join(chunks))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(payload))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": payload})


async def rsgi(scope: Any, protocol: Any) -> None:
    """RSGI 1; `protocol()` gives the whole body."""
    payload = answer(scope.path, await protocol())
    protocol.response_bytes(200, [("content-type", "application/json")], payload)
