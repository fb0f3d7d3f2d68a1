"""A strict reader of HTTP/1.1 responses: what a lenient client would forgive is an error here.

Shares no code with the node and uses no HTTP library, so that a fault in one cannot hide a fault in the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) ([\x20-\x7e]+)\r\n")
_HEADER = re.compile(rb"([a-z0-9!#$%&'*+.^_`|~-]+): ([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)\r\n")
_WITHOUT_BODY = (204,)
_CHUNK = re.compile(rb"([0-9a-f]+)\r\n")


class MalformedResponse(AssertionError):
    """The node broke HTTP."""


class Incomplete(Exception):
    """More bytes are needed."""


@dataclass
class Response:
    """One final response."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    interim: list[int] = field(default_factory=list)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def closes(self) -> bool:
        return self.headers.get(b"connection") == b"close"


def read_responses(stream: bytes, methods: Sequence[bytes] = (), closed: bool = True) -> list[Response]:
    """All responses in a stream of bytes.

    Args:
        methods: of the requests, in order; ``GET`` for those beyond. A response to HEAD has no body.
        closed: the stream has ended, so what is there must be whole.

    Raises:
        MalformedResponse: anything a strict client would refuse, or bytes behind a response that says it is the last.
    """
    responses: list[Response] = []
    while stream:
        method = methods[len(responses)] if len(responses) < len(methods) else b"GET"
        if responses and responses[-1].closes:
            raise MalformedResponse(f"bytes behind a response that closes the connection: {stream[:200]!r}")
        try:
            response, used = read_response(stream, method, closed)
        except Incomplete:
            if closed:
                raise MalformedResponse(f"the stream ends within a response: {stream[:300]!r}") from None
            break
        responses.append(response)
        stream = stream[used:]
    return responses


def read_response(stream: bytes, method: bytes = b"GET", closed: bool = False) -> tuple[Response, int]:
    """The first final response in a stream, and how many bytes it takes with the interim ones before it.

    Raises:
        Incomplete: it is not whole yet.
        MalformedResponse: a strict client would refuse it.
    """
    position = 0
    interim: list[int] = []
    while True:
        status, headers, position = _read_head(stream, position)
        if status >= 200:
            break
        if b"content-length" in headers or b"transfer-encoding" in headers:
            raise MalformedResponse(f"an interim response {status} has a body")
        interim.append(status)
    if status in _WITHOUT_BODY:
        body = b""
        if b"content-length" in headers or b"transfer-encoding" in headers:
            raise MalformedResponse(f"a response {status} has a body")
    else:
        body, position = _read_body(stream, position, method, headers, closed)
    response = Response(status, headers, body, interim)
    _check_meaning(response, method)
    return response, position


def _read_head(stream: bytes, position: int) -> tuple[int, dict[bytes, bytes], int]:
    end = stream.find(b"\r\n\r\n", position)
    if end < 0:
        if not b"HTTP/1.1 ".startswith(stream[position : position + 9]) and len(stream) - position >= 9:
            raise MalformedResponse(f"not a status line: {stream[position : position + 100]!r}")
        raise Incomplete
    line = _STATUS_LINE.match(stream, position)
    if line is None:
        raise MalformedResponse(f"not a status line: {stream[position : position + 100]!r}")
    position = line.end()
    headers: dict[bytes, bytes] = {}
    while position < end + 2:
        header = _HEADER.match(stream, position)
        if header is None:
            raise MalformedResponse(f"not a header: {stream[position : position + 100]!r}")
        if header[1] in headers:
            raise MalformedResponse(f"header {header[1]!r} comes twice")
        headers[header[1]] = header[2]
        position = header.end()
    return int(line[1]), headers, end + 4


def _read_body(
    stream: bytes, position: int, method: bytes, headers: dict[bytes, bytes], closed: bool
) -> tuple[bytes, int]:
    length, coding = headers.get(b"content-length"), headers.get(b"transfer-encoding")
    if length is not None and coding is not None:
        raise MalformedResponse("content-length beside transfer-encoding")
    if length is not None and not length.isdigit():
        raise MalformedResponse(f"content-length {length!r}")
    if method == b"HEAD":
        return b"", position
    if length is not None:
        end = position + int(length)
        if len(stream) < end:
            raise Incomplete
        return stream[position:end], end
    if coding is not None:
        if coding != b"chunked":
            raise MalformedResponse(f"transfer-encoding {coding!r}")
        return _read_chunks(stream, position)
    if headers.get(b"connection") != b"close":
        raise MalformedResponse("a body without a length on a connection that stays open")
    if not closed:
        raise Incomplete
    return stream[position:], len(stream)


def _read_chunks(stream: bytes, position: int) -> tuple[bytes, int]:
    parts = []
    while True:
        line = _CHUNK.match(stream, position)
        if line is None:
            if b"\r\n" in stream[position : position + 20]:
                raise MalformedResponse(f"not the size of a chunk: {stream[position : position + 20]!r}")
            raise Incomplete
        start, size = line.end(), int(line[1], 16)
        end = start + size
        if len(stream) < end + 2:
            raise Incomplete
        if stream[end : end + 2] != b"\r\n":
            raise MalformedResponse("a chunk does not end where its size says")
        if size == 0:
            return b"".join(parts), end + 2
        parts.append(stream[start:end])
        position = end + 2


def _check_meaning(response: Response, method: bytes) -> None:
    for name in (b"date", b"x-request-id", b"content-type"):
        if name not in response.headers and (name != b"content-type" or response.status not in _WITHOUT_BODY):
            raise MalformedResponse(f"a response without {name.decode()}: {response.headers}")
    if response.status == 405 and b"allow" not in response.headers:
        raise MalformedResponse("405 without allow")
    if response.status == 503 and b"retry-after" not in response.headers and response.body != b'{"ready":false}':
        raise MalformedResponse("503 without retry-after")
    if response.status >= 400 and method != b"HEAD" and b"ready" not in response.body:
        document = json.loads(response.body)
        if set(document) != {"error"} or not isinstance(document["error"], str) or not document["error"]:
            raise MalformedResponse(f"an error that V2 clients cannot read: {response.body[:200]!r}")
