"""Paths to handlers: exact matches in one dictionary."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from heapq import nlargest
from operator import eq
from urllib.parse import unquote_to_bytes

from setpoint.core import MethodNotAllowed, NotFound
from setpoint.node.http import Exchange

_COMPARED_ROUTES = 4
Handler = Callable[[Exchange], None]
Routes = dict[tuple[str, str], Handler]
"""Handlers by method and path."""


class Router:
    """Routes by whole path. Models are known, so no pattern is ever matched on the hot path."""

    def __init__(self) -> None:
        self._routes: dict[bytes, dict[bytes, tuple[Handler, bytes]]] = {}
        self._families: dict[bytes, Handler] = {}

    def add(self, method: str, path: str, handler: Handler, lines: bytes = b"") -> None:
        """Register a handler, and headers that all of its answers have, errors too. HEAD is answered by GET's.

        A path that ends in ``/*`` stands for all paths below it that have no handler of their own, by any method.
        """
        if path.endswith("/*"):
            self._families[path[:-1].encode()] = handler
            return
        methods = self._routes.setdefault(path.encode(), {})
        methods[method.encode()] = handler, lines
        if method == "GET":
            methods[b"HEAD"] = handler, lines

    def remove(self, method: str, path: str) -> None:
        """Forget a handler, and the path with its last one."""
        methods = self._routes[path.encode()]
        del methods[method.encode()]
        if method == "GET":
            del methods[b"HEAD"]
        if not methods:
            del self._routes[path.encode()]

    def route(self, exchange: Exchange) -> None:
        """Call the handler of the exchange's path and method.

        Raises:
            NotFound: no such path; the message names the nearest one.
            MethodNotAllowed: the path exists, for other methods.
        """
        methods = self._routes.get(exchange.path) or self._routes.get(_normal(exchange.path))
        if methods is None:
            for prefix, family in self._families.items():
                if exchange.path.startswith(prefix):
                    family(exchange)
                    return
            raise self._not_found(exchange.path)
        found = methods.get(exchange.method)
        if found is None:
            allowed = tuple(sorted(method.decode() for method in methods))
            raise MethodNotAllowed(
                f"{exchange.method.decode()} is not allowed on {_text(exchange.path)}; use {' or '.join(allowed)}",
                allowed,
            )
        handler, lines = found
        if lines:
            exchange.lines += lines
        handler(exchange)

    def _not_found(self, path: bytes) -> NotFound:
        # Comparing with every route of a node of many models would cost each mistyped request 50 ms.
        parts = path.split(b"/")
        alike = nlargest(_COMPARED_ROUTES, self._routes, key=lambda route: _equal_parts(parts, route))
        near = get_close_matches(_text(path), [route.decode() for route in alike], n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]}?" if near else "; GET /docs lists what there is"
        return NotFound(f"nothing is served at {_text(path)}{hint}")


def _equal_parts(parts: list[bytes], route: bytes) -> int:
    return sum(map(eq, parts, route.split(b"/")))


def _normal(path: bytes) -> bytes:
    """Clients percent-encode names (``quote()``) and some add a slash at the end.

    An encoded slash is part of a name, and no name has one: what lets ``/models/a%2Fb`` pass a proxy's rules for
    ``/models/*`` must not reach ``/models/a/b``.
    """
    decoded = unquote_to_bytes(path)
    if decoded.count(b"/") != path.count(b"/"):
        return path
    return decoded[:-1] if decoded.endswith(b"/") and len(decoded) > 1 else decoded


def _text(path: bytes) -> str:
    text = path[:200].decode("ascii", "backslashreplace")
    return text if len(path) <= 200 else text + "…"
