"""V2's system shared memory over REST: status, register, unregister.

Source: Triton, ``extension_shared_memory``.
"""

from __future__ import annotations

from functools import partial
from urllib.parse import unquote

import msgspec

from setpoint.core import MethodNotAllowed, NotFound
from setpoint.node.http import Exchange
from setpoint.node.router import Routes
from setpoint.node.shared_memory import Regions
from setpoint.wire import decoding

_BASE = "/v2/systemsharedmemory"
_VERBS = {"status": b"GET", "register": b"POST", "unregister": b"POST"}


class _Registration(msgspec.Struct):
    key: str
    byte_size: int
    offset: int = 0


def memory_routes(regions: Regions) -> Routes:
    """``/v2/systemsharedmemory/status`` and ``/unregister``, and the same of a region with ``/register``."""
    return {
        ("GET", f"{_BASE}/status"): partial(_status, regions, ""),
        ("POST", f"{_BASE}/unregister"): partial(_unregister, regions, ""),
        ("GET", f"{_BASE}/region/*"): partial(_of_region, regions),
    }


def _of_region(regions: Regions, exchange: Exchange) -> None:
    name, _, verb = exchange.path.decode("latin-1").removeprefix(f"{_BASE}/region/").removesuffix("/").partition("/")
    method = _VERBS.get(verb)
    if method is None:
        raise NotFound(f"nothing is served there; expected {_BASE}/region/NAME/status, …/register or …/unregister")
    if exchange.method != method:
        raise MethodNotAllowed(
            f"{exchange.method.decode()} is not allowed on {verb}; use {method.decode()}", (method.decode(),)
        )
    name = unquote(name)
    if verb == "status":
        _status(regions, name, exchange)
    elif verb == "unregister":
        _unregister(regions, name, exchange)
    else:
        _register(regions, name, exchange)


def _status(regions: Regions, name: str, exchange: Exchange) -> None:
    exchange.respond(200, msgspec.json.encode(regions.status(name)))


def _unregister(regions: Regions, name: str, exchange: Exchange) -> None:
    regions.unregister(name)
    exchange.respond(200, b"")


def _register(regions: Regions, name: str, exchange: Exchange) -> None:
    with decoding("a registration of shared memory (key, offset, byte_size)"):
        asked = msgspec.json.decode(exchange.body, type=_Registration)
    regions.register(name, asked.key, asked.offset, asked.byte_size)
    exchange.respond(200, b"")
