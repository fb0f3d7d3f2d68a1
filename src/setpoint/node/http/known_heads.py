"""Heads of requests that were read before: clients that keep a connection send the same one again and again.

Reading a head takes the parser eight calls of Python. What it says follows from its bytes alone, so bytes that the
parser has read once, from the beginning of a packet that held one whole request, are not read again: the rest of a
packet that begins with them, if it has just the declared length, is the body. Everything else goes to the parser.
"""

from __future__ import annotations

from setpoint.node.http.exchange import Exchange

HEAD_END = b"\r\n\r\n"
_HEADS_REMEMBERED = 256
_LONGEST_BYTES = 2048
MISSES_ALLOWED = 16
"""Requests in a row of one connection with heads that nobody knows; behind them, it is not looked any more: such a
client has something of each request in its head, a trace or an id."""


class KnownHead:
    """What the parser made of a head.

    Attributes:
        method, path, query, headers: as ``Exchange`` has them; ``headers`` is copied for each request.
        body_bytes: declared; the length of the body behind it.
    """

    __slots__ = ("body_bytes", "headers", "method", "path", "query")

    def __init__(self, exchange: Exchange) -> None:
        self.method = exchange.method
        self.path = exchange.path
        self.query = exchange.query
        self.headers = exchange.headers.copy()
        self.body_bytes = len(exchange.body)


class KnownHeads:
    """Those of a server's HTTP/1.1 connections. What they hold of a client goes when others come or the node ends."""

    __slots__ = ("_heads", "find")

    def __init__(self) -> None:
        self._heads: dict[bytes, KnownHead] = {}
        self.find = self._heads.get
        """The head of these bytes, its empty line included; None where it is not known."""

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._heads)

    def learn(self, packet: bytes, exchange: Exchange) -> None:
        """Remember a head, if the packet is this request and nothing else, and another body may stand behind it.

        Args:
            packet: which the parser began with nothing of a request read before.
            exchange: what it made of the first request in it, which nobody has handled yet.
        """
        end = packet.find(HEAD_END) + len(HEAD_END)
        headers = exchange.headers
        if (
            end < len(HEAD_END)
            or len(packet) != end + len(exchange.body)
            or end > _LONGEST_BYTES
            or not exchange.keep_alive
            or exchange.http_10
            or b"transfer-encoding" in headers  # its length is no property of the head
            or b"expect" in headers
        ):
            return
        if len(self._heads) >= _HEADS_REMEMBERED:
            self._heads.clear()  # whoever is still there is known again after one request
        self._heads[packet[:end]] = KnownHead(exchange)
