"""Status line and headers of responses."""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus

JSON = b"application/json"
Headers = tuple[tuple[bytes, bytes], ...]

_STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}
_OK_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
_NO_CONTENT = 204
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE = b"connection: close\r\n"
KEEP_ALIVE = b"connection: keep-alive\r\n"


class _Clock:
    """The Date header, made anew each second: between ``since_s`` and ``until_s`` it is right."""

    since_s = 0.0
    until_s = 0.0
    lines = b""
    date = b""


def date_lines() -> bytes:
    """``date`` and ``server``."""
    if not _Clock.since_s <= time.time() < _Clock.until_s:  # also when somebody set the clock back
        _new_second()
    return _Clock.lines


def date_value() -> bytes:
    """The value of the ``date`` header."""
    date_lines()
    return _Clock.date


def _new_second() -> None:
    second = int(time.time())
    _Clock.since_s, _Clock.until_s = float(second), second + 1.0
    _Clock.date = formatdate(second, usegmt=True).encode()
    _Clock.lines = b"date: %b\r\nserver: setpoint\r\n\r\n" % _Clock.date


def json_response(body: bytes, request_id: bytes, lines: bytes) -> bytes:
    """A whole answer of status 200 in JSON, as nearly every one is: one formatting for all of it."""
    if not _Clock.since_s <= time.time() < _Clock.until_s:
        _new_second()
    return b"%b%d\r\nx-request-id: %b\r\n%b%b%b" % (_OK_JSON, len(body), request_id, lines, _Clock.lines, body)


def response_head(
    status: int, content_type: bytes, length_bytes: int, headers: Headers, request_id: bytes, lines: bytes
) -> bytes:
    """Head of an answer whose length is known.

    Args:
        headers: of this answer, as pairs.
        request_id: the value of ``x-request-id``.
        lines: more headers, ready to be sent, each ended by CR LF.
    """
    more = b"".join([b"%b: %b\r\n" % header for header in headers])
    framing = (
        b"" if status == _NO_CONTENT else b"content-type: %b\r\ncontent-length: %d\r\n" % (content_type, length_bytes)
    )
    return b"%b%bx-request-id: %b\r\n%b%b%b" % (_STATUS_LINES[status], framing, request_id, more, lines, date_lines())


def stream_head(content_type: bytes, headers: Headers, chunked: bool, request_id: bytes, lines: bytes) -> bytes:
    """Head of an answer whose length is not known when it begins: in chunks, or up to the end of the connection."""
    more = b"".join([b"%b: %b\r\n" % header for header in headers])
    return b"%bcontent-type: %b\r\ncache-control: no-store\r\n%bx-request-id: %b\r\n%b%b%b" % (
        _STATUS_LINES[200],
        content_type,
        b"transfer-encoding: chunked\r\n" if chunked else b"",
        request_id,
        more,
        lines,
        date_lines(),
    )
