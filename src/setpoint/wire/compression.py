"""gzip and deflate, a slice at a time: whoever runs these generators can let others have their turn in between.

Sources: RFC 1950 (``deflate``), RFC 1952 (``gzip``), RFC 9110 section 8.4 and 12.5.3.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator

from setpoint.core import InvalidRequest, RequestTooLarge

_SLICE_BYTES = 256 * 1024
"""About a millisecond's work in either direction."""
_WINDOW_BYTES = 64 * 1024
"""Given to zlib at once: what it does not consume it copies."""
_WBITS = {"gzip": 31, "deflate": 15}
_RAW_DEFLATE = -15
CODINGS = tuple(_WBITS)
"""Content codings that are read and written."""
_FASTEST = 1
_FEWEST_BYTES = 1024
"""Smaller answers are not worth compressing."""


def inflate(body: bytes, coding: str, limit_bytes: int) -> Generator[None, None, bytes]:
    """Decompress a request's body.

    Args:
        body: one gzip member or zlib stream; a bare deflate stream, which some clients send by that name, too.
        coding: one of ``CODINGS``.
        limit_bytes: of what comes out.

    Raises:
        InvalidRequest: it is no such stream, or ends early, or something stands behind it.
        RequestTooLarge: more comes out than the limit.
    """
    wbits = _WBITS[coding]
    if coding == "deflate" and not _has_zlib_head(body):
        wbits = _RAW_DEFLATE
    inflater = zlib.decompressobj(wbits)
    whole = bytearray()
    position = 0
    pending = b""
    slice_end = _SLICE_BYTES  # of what went in and what came out: either can be long where the other is short
    while not inflater.eof:
        if not pending:
            pending = body[position : position + _WINDOW_BYTES]
            position += len(pending)
            if not pending:
                raise InvalidRequest(f"the {coding} body ends before its stream does")
        try:
            whole += inflater.decompress(pending, _SLICE_BYTES)
        except zlib.error as error:
            raise InvalidRequest(f"the body is not a {coding} stream: {error}") from error
        pending = inflater.unconsumed_tail
        if len(whole) > limit_bytes:
            raise RequestTooLarge(
                f"the body decompresses to more than the limit of {limit_bytes} bytes (--max-body); send fewer rows"
            )
        if position + len(whole) >= slice_end:
            slice_end = position + len(whole) + _SLICE_BYTES
            yield
    if inflater.unused_data or position < len(body):
        raise InvalidRequest(f"something stands behind the end of the {coding} stream; send one stream")
    return bytes(whole)


def _has_zlib_head(body: bytes) -> bool:
    return len(body) > 1 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0


def deflate(body: bytes, coding: str) -> Generator[None, None, bytes]:
    """Compress an answer, fast rather than small."""
    deflater = zlib.compressobj(_FASTEST, zlib.DEFLATED, _WBITS[coding])
    pieces = []
    for start in range(0, len(body), _WINDOW_BYTES):
        if start:
            yield
        pieces.append(deflater.compress(body[start : start + _WINDOW_BYTES]))
    pieces.append(deflater.flush())
    return b"".join(pieces)


def answer_coding(accept_encoding: bytes | None, size_bytes: int) -> str:
    """The coding in which an answer should be sent; empty for plain.

    HTTP libraries accept ``gzip, deflate`` without being asked, and a tensor costs more to compress than to send. So
    only a client that names one coding, and no other, gets it: that is how inference clients ask.
    """
    if accept_encoding is None or size_bytes < _FEWEST_BYTES:
        return ""
    name, _, quality = accept_encoding.decode("latin-1").strip().lower().partition(";")
    refused = quality.replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return name.strip() if name.strip() in CODINGS and not refused else ""
