"""Pages of other origins may call the node, where its operator says so: the Fetch standard's CORS protocol.

Source: https://fetch.spec.whatwg.org/#http-cors-protocol. Cookies and other credentials of the browser's are never
asked for; tokens in ``authorization`` work, since a page sends them itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from setpoint.core import Forbidden, InvalidConfiguration
from setpoint.node.http.exchange import Exchange, respond_error

ANY = "*"
_ORIGIN = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_NAMES = re.compile(rb"[A-Za-z0-9_, \t-]{1,1024}")
_METHODS = b"access-control-allow-methods: GET, HEAD, POST\r\naccess-control-max-age: 600\r\n"
_EXPOSED = (
    b"access-control-expose-headers: x-request-id, server-timing, traceresponse, retry-after, retry-after-ms, "
    b"setpoint-model, setpoint-variant, setpoint-error, inference-header-content-length\r\n"
)
_VARY = b"vary: origin\r\n"


def check_origins(origins: tuple[str, ...]) -> None:
    """Raise ``InvalidConfiguration`` unless each is ``*`` or an origin as browsers send them."""
    for origin in origins:
        if origin != ANY and not _ORIGIN.fullmatch(origin):
            raise InvalidConfiguration(
                f"--cors-origin takes an origin such as https://app.example.com, without a path, or *; got {origin!r}"
            )


class Cors:
    """Stands before a handler: answers preflights, and lets the pages of some origins read its answers."""

    def __init__(self, origins: tuple[str, ...], handler: Callable[[Exchange], None]) -> None:
        """For these origins, ``*`` among them for every one.

        Raises:
            InvalidConfiguration: one of them is no origin.
        """
        check_origins(origins)
        self._any = ANY in origins
        self._origins = {origin.lower().encode() for origin in origins}
        self._handler = handler

    def handle(self, exchange: Exchange) -> None:
        """Handle a request, from a page or not."""
        origin = exchange.headers.get(b"origin")
        if not self._any:
            exchange.lines += _VARY  # also where no origin is named: a cache must not answer a page with that
        if origin is None:
            self._handler(exchange)
            return
        allowed = self._any or origin.lower() in self._origins
        if allowed:
            named = b"*" if self._any else origin
            exchange.lines += b"access-control-allow-origin: %b\r\ntiming-allow-origin: %b\r\n" % (named, named)
        if exchange.method == b"OPTIONS" and b"access-control-request-method" in exchange.headers:
            self._preflight(exchange, allowed)
        else:
            exchange.lines += _EXPOSED
            self._handler(exchange)

    def _preflight(self, exchange: Exchange, allowed: bool) -> None:
        """A browser asks before it lets a page send something."""
        if not allowed:
            message = "pages of this origin may not call this node (--cors-origin names those that may)"
            respond_error(exchange, Forbidden(message))
            return
        exchange.lines += _METHODS
        names = exchange.headers.get(b"access-control-request-headers", b"")
        if _NAMES.fullmatch(names):
            exchange.lines += b"access-control-allow-headers: %b\r\n" % names
        exchange.respond(204, b"")
