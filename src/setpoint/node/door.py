"""What every request meets before it is read: is the node still open, and is this a body that we read."""

from __future__ import annotations

from collections.abc import Callable

from setpoint.core import Limits, RequestTooLarge, UnsupportedMedia
from setpoint.node.http import Exchange

_JSON = b"application/json"
_NOT_JSON = (b"application/octet-stream", b"multipart/form-data")


class Door:
    """Checks that routes share.

    Attributes:
        limits: of the node.
        refuse_while_draining: raises ``Draining`` when the node is shutting down.
    """

    def __init__(self, limits: Limits, refuse_while_draining: Callable[[], None]) -> None:
        self.limits = limits
        self.refuse_while_draining = refuse_while_draining

    def check_json(self, exchange: Exchange) -> None:
        """Refuse bodies that cannot be JSON, or are too long for it.

        Others are tried whatever they are called: ``curl -d`` calls JSON a form.
        """
        limit_bytes = self.limits.json_limit_bytes
        if len(exchange.body) > limit_bytes:
            raise RequestTooLarge(
                f"the JSON body has {len(exchange.body)} bytes, more than the limit of {limit_bytes} "
                "(--max-json); send fewer rows a request"
            )
        headers = exchange.headers
        content_type = headers.get(b"content-type", _JSON)
        if content_type != _JSON and content_type.split(b";", 1)[0].strip().lower() in _NOT_JSON:
            raise UnsupportedMedia(f"expected application/json, got {content_type.decode('latin-1')[:80]}")
        check_encoding(exchange)
        if b"inference-header-content-length" in headers:
            raise UnsupportedMedia("binary tensor data is not supported; send tensors as JSON")


def is_json(exchange: Exchange) -> bool:
    """Whether the body says that it is JSON."""
    content_type = exchange.headers.get(b"content-type", b"")
    return content_type.split(b";", 1)[0].strip().lower() == _JSON


def check_encoding(exchange: Exchange) -> None:
    """Refuse compressed bodies: nobody would unpack them, and an endpoint that takes bytes would not notice."""
    encoding = exchange.headers.get(b"content-encoding")
    if encoding is not None and encoding.strip().lower() != b"identity":
        raise UnsupportedMedia(
            f"content-encoding {encoding.decode('latin-1')[:40]!r} is not supported; send the body plain"
        )
