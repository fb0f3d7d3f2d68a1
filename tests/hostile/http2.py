"""Attacks in HTTP/2: the hostile requests of HTTP/1.1 as streams, and frames that are none or too many.

Frames are made and read here by hand; only header compression is a library's.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from hpack import Decoder, Encoder

from hostile.attacks import Message
from hostile.bodies import BODIES, INFER, infer, large
from hostile.responses import MalformedResponse, Response

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS = 1, 4
_FRAME_BYTES = 16_384
_WINDOW = (1 << 30).to_bytes(4, "big")
_NOT_OF_STREAMS = {b"connection", b"transfer-encoding", b"upgrade", b"host", b"keep-alive", b"proxy-connection"}


@dataclass(frozen=True)
class Streams:
    """Messages on one connection, all at once."""

    kind: str
    messages: tuple[Message, ...]
    payload: bytes


@dataclass(frozen=True)
class Frames:
    """Bytes behind a good preface on a connection of their own, which the client half-closes behind them."""

    kind: str
    payload: bytes
    cuts: tuple[int, ...] = ()


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """Nine bytes and a payload, whatever they say."""
    declared = len(payload) if length is None else length
    return declared.to_bytes(3, "big") + bytes([kind & 255, flags]) + stream_id.to_bytes(4, "big") + payload


HELLO = PREFACE + frame(SETTINGS, 0, 0, b"\0\4" + _WINDOW) + frame(WINDOW_UPDATE, 0, 0, _WINDOW)


def request_frames(stream_id: int, encoder: Encoder, head: list[tuple[bytes, bytes]], body: bytes) -> bytes:
    """One well-formed request."""
    parts = [frame(HEADERS, END_HEADERS, stream_id, encoder.encode(head))]
    pieces = [body[start : start + _FRAME_BYTES] for start in range(0, len(body), _FRAME_BYTES)] or [b""]
    parts += [frame(DATA, 0, stream_id, piece) for piece in pieces[:-1]]
    return b"".join([*parts, frame(DATA, END_STREAM, stream_id, pieces[-1])])


def translated(message: Message, stream_id: int, encoder: Encoder) -> bytes:
    """A message of HTTP/1.1 as a stream."""
    lines, _, body = message.payload.partition(b"\r\n\r\n")
    first, *fields = lines.split(b"\r\n")
    method, path, _ = first.split(b" ")
    head = [(b":method", method), (b":scheme", b"http"), (b":authority", b"node"), (b":path", path)]
    for line in fields:
        name, _, value = line.partition(b":")
        if name.lower() not in _NOT_OF_STREAMS:
            head.append((name.lower(), value.strip()))
    return request_frames(stream_id, encoder, head, body)


def streams(messages: tuple[Message, ...]) -> Streams:
    """Messages as they are sent together."""
    encoder = Encoder()
    parts = [translated(message, 1 + 2 * index, encoder) for index, message in enumerate(messages)]
    return Streams("HTTP/2 streams", messages, HELLO + b"".join(parts))


@dataclass
class Reader:
    """Reads what a node sends, strictly.

    Attributes:
        ended: whole responses by stream.
        goodbye: the node said that it closes.
    """

    ended: dict[int, Response] = field(default_factory=dict)
    goodbye: bool = False
    _unread: bytes = b""
    _decoder: Decoder = field(default_factory=Decoder)
    _begun: dict[int, Response] = field(default_factory=dict)
    _first: bool = True

    def feed(self, data: bytes) -> None:
        """More bytes came."""
        self._unread += data
        while len(self._unread) >= 9:
            end = 9 + int.from_bytes(self._unread[:3], "big")
            if len(self._unread) < end:
                return
            kind, flags = self._unread[3], self._unread[4]
            stream_id, payload = int.from_bytes(self._unread[5:9], "big"), self._unread[9:end]
            self._unread = self._unread[end:]
            if self._first != (kind == SETTINGS and not flags):
                raise MalformedResponse(f"frame {kind} with flags {flags}: settings come first, and once")
            self._first = False
            self._take(kind, flags, stream_id, payload)

    def _take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == HEADERS:
            if not flags & END_HEADERS or not stream_id % 2 or stream_id in self._begun:
                raise MalformedResponse(f"headers with flags {flags} on stream {stream_id}")
            fields = [(name.encode(), value.encode()) for name, value in self._decoder.decode(payload)]
            headers = dict(fields)
            status = int(headers.pop(b":status", b"0"))
            if status < 200:
                return
            if b"x-request-id" not in headers or b"date" not in headers:
                raise MalformedResponse(f"a response without id or date: {headers}")
            self._begun[stream_id] = Response(status, headers, b"")
        elif kind == DATA:
            if stream_id not in self._begun:
                raise MalformedResponse(f"data without headers on stream {stream_id}")
            self._begun[stream_id].body += payload
        elif kind == GOAWAY:
            self.goodbye = True
        elif kind not in (RST_STREAM, SETTINGS, PING, WINDOW_UPDATE):
            raise MalformedResponse(f"a frame of kind {kind}")
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            response = self.ended[stream_id] = self._begun.pop(stream_id)
            length = response.headers.get(b"content-length")
            if length is not None and int(length) != len(response.body):
                raise MalformedResponse(f"content-length {length!r} of a body of {len(response.body)} bytes")


def _message(rng: random.Random) -> Message:
    kinds = [kind for kind in BODIES if kind is not large]
    return rng.choices(kinds, [BODIES[kind] for kind in kinds])[0](rng)


def bodies(rng: random.Random) -> Streams:
    """Hostile bodies, several at once."""
    return streams(tuple(_message(rng) for _ in range(rng.choice([1, 2, 5, 20]))))


def random_frames(rng: random.Random) -> Frames:
    """Frames of any kind, with anything in them."""
    encoder = Encoder()
    head = encoder.encode([(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"x"), (b":path", b"/v2")])
    parts = []
    for _ in range(rng.randint(1, 30)):
        payload = rng.choice([b"", head, rng.randbytes(rng.choice([1, 4, 8, 100])), b"\0\0\0\x01", b"\0\3\0\0\0\0"])
        length = rng.choice([None] * 20 + [0, 1, 16_384, 16_385, 2**24 - 1])
        stream_id = rng.choice([0, 1, 1, 3, 5, 7, 2, 2**31 - 1, 2**32 - 1])
        parts.append(
            frame(rng.choice([*range(11), 255]), rng.choice([0, 1, 4, 5, 5, 5, 255]), stream_id, payload, length)
        )
    return Frames("HTTP/2, random frames", HELLO + b"".join(parts))


def mutated_frames(rng: random.Random) -> Frames:
    """Good requests with some bytes changed."""
    encoder = Encoder()
    head = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"x"), (b":path", INFER.encode())]
    good = b"".join(request_frames(1 + 2 * index, encoder, head, infer(rng)) for index in range(3))
    payload = bytearray(HELLO[len(PREFACE) :] + good)
    for _ in range(rng.randint(1, 4)):
        where = rng.randrange(len(payload))
        change = rng.randrange(3)
        if change == 0:
            payload[where] = rng.randrange(256)
        elif change == 1:
            del payload[where]
        else:
            payload[where:where] = rng.randbytes(rng.randint(1, 9))
    cuts = tuple(sorted(rng.randrange(len(payload)) for _ in range(rng.randint(0, 3))))
    return Frames("HTTP/2, mutated", PREFACE + bytes(payload), cuts)


def floods(rng: random.Random) -> Frames:
    """Legal frames that cost more to read than to send."""
    head = Encoder().encode([(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"x"), (b":path", b"/v2")])
    resets = b"".join(
        frame(HEADERS, END_HEADERS | END_STREAM, stream, head) + frame(RST_STREAM, 0, stream, b"\0\0\0\x08")
        for stream in range(1, 2001, 2)
    )
    flood = rng.choice(
        [
            resets,
            frame(PING, 0, 0, b"12345678") * 5000,
            frame(SETTINGS, 0, 0) * 5000,
            frame(PRIORITY, 0, 1, b"\0\0\0\x03\x10") * 5000,
            frame(HEADERS, END_HEADERS, 1, head) + frame(DATA, 0, 1) * 5000,
            frame(HEADERS, 0, 1, head) + frame(CONTINUATION, 0, 1, b"\0" * 1000) * 100,
            frame(HEADERS, END_HEADERS | END_STREAM, 1, head + b"\x7f" + b"\xff" * 10),
            b"".join(frame(HEADERS, END_HEADERS | END_STREAM, stream, head) for stream in range(1, 1001, 2)),
        ]
    )
    return Frames("HTTP/2 floods", HELLO + flood)


HTTP2: dict[Callable[[random.Random], Streams | Frames], int] = {
    bodies: 6,
    random_frames: 4,
    mutated_frames: 6,
    floods: 1,
}
"""Each kind of attack and how often it comes."""
