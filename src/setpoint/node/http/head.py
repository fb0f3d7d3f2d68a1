"""Status line and headers of responses."""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus

_STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class _Date:
    """The Date header, made anew each second."""

    second = -1
    header = b""

    @classmethod
    def current(cls) -> bytes:
        second = int(time.time())
        if second != cls.second:
            cls.second = second
            cls.header = b"date: %b\r\nserver: setpoint\r\n" % formatdate(second, usegmt=True).encode()
        return cls.header


def _connection_header(http_10: bool, keep_alive: bool) -> bytes:
    if not keep_alive:
        return b"connection: close\r\n"
    return b"connection: keep-alive\r\n" if http_10 else b""


def response_head(
    status: int,
    content_type: bytes,
    length_bytes: int,
    headers: tuple[tuple[bytes, bytes], ...],
    http_10: bool,
    keep_alive: bool,
) -> bytes:
    """Head of an answer whose length is known."""
    extra = b"".join([b"%b: %b\r\n" % header for header in headers]) if headers else b""
    return b"%bcontent-type: %b\r\ncontent-length: %d\r\n%b%b%b\r\n" % (
        _STATUS_LINES[status],
        content_type,
        length_bytes,
        extra,
        _connection_header(http_10, keep_alive),
        _Date.current(),
    )


def stream_head(
    content_type: bytes, headers: tuple[tuple[bytes, bytes], ...], http_10: bool, keep_alive: bool
) -> bytes:
    """Head of an answer whose length is not known when it begins."""
    extra = b"".join([b"%b: %b\r\n" % header for header in headers])
    framing = b"" if http_10 else b"transfer-encoding: chunked\r\n"
    return b"%bcontent-type: %b\r\ncache-control: no-store\r\n%b%b%b%b\r\n" % (
        _STATUS_LINES[200],
        content_type,
        framing,
        extra,
        _connection_header(http_10, keep_alive),
        _Date.current(),
    )
