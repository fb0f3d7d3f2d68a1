"""The same echo on granian's own interface (RSGI), one worker: the ceiling if the node's HTTP server is granian."""

from __future__ import annotations

import os
from typing import Any

from granian import Granian
from granian.constants import Interfaces, Loops

HEADERS = [("content-type", "application/json")]


async def app(scope: Any, protocol: Any) -> None:
    """Echo the request's body; no routing, no JSON."""
    protocol.response_bytes(200, HEADERS, await protocol())


if __name__ == "__main__":
    Granian(
        "echo_granian_server:app",
        address="127.0.0.1",
        port=int(os.environ["PEER_PORT"]),
        interface=Interfaces.RSGI,
        workers=1,
        loop=Loops.uvloop,
        log_access=False,
        log_level="warning",
    ).serve()
