"""What a client may do with HTTP/2 that is legal frame by frame and still an attack. Pure: the time is given.

The library checks that frames are well-formed and in order. It buffers a frame before it judges its length, and does
not count: streams opened and reset at once (CVE-2023-44487), header blocks without end (CVE-2024-27316), settings,
pings and empty frames that cost us more than their sender (CVE-2019-9512 to 9518). Frame headers are read here first.
"""

from __future__ import annotations

from setpoint.core import Limits

FRAME_LIMIT_BYTES = 16_384
"""Payload of one frame: the least that the protocol allows us to ask for (RFC 9113, 6.5.2)."""
_HEADER_BYTES = 9
_DATA, _HEADERS, _RST_STREAM, _CONTINUATION = 0, 1, 3, 9
_END_STREAM, _END_HEADERS = 0x1, 0x4
_CONTINUATIONS_LIMIT = 16
_SMALL_DATA_BYTES = 64
_RESETS, _RESETS_PER_S = 400, 100
_CHORES, _CHORES_PER_S = 2000, 500


class Abuse(Exception):
    """The client is told to calm down, and its connection closed."""


class Bucket:
    """So many at once, and so many a second in the long run."""

    __slots__ = ("_left", "_per_ns", "_room", "_since_ns")

    def __init__(self, room: int, per_s: int, now_ns: int) -> None:
        self._room = room
        self._per_ns = per_s / 1e9
        self._left = float(room)
        self._since_ns = now_ns

    def take(self, now_ns: int) -> bool:
        """One of them; False when there was none left."""
        self._left = min(self._room, self._left + (now_ns - self._since_ns) * self._per_ns)
        self._since_ns = now_ns
        self._left -= 1
        return self._left >= 0

    def give(self, number: int) -> None:
        """So many more are in order."""
        self._left += number


class FrameGuard:
    """Looks at everything a client sends, before it is parsed."""

    def __init__(self, limits: Limits, now_ns: int) -> None:
        self._block_limit_bytes = 2 * limits.header_limit_bytes
        self._header_timeout_ns = limits.header_timeout_s * 1e9
        self._head = bytearray()
        self._rest_bytes = 0
        self._block_bytes = 0
        self._continuations = 0
        self._block_since_ns = 0
        self._block_ends = False
        self._resets = Bucket(_RESETS, _RESETS_PER_S, now_ns)
        self._chores = Bucket(_CHORES, _CHORES_PER_S, now_ns)

    def look(self, data: bytes, now_ns: int) -> None:
        """Judge the next bytes.

        Raises:
            Abuse: they are not to be parsed; the message says why.
        """
        at, end = 0, len(data)
        while at < end:
            if self._rest_bytes:
                step = min(self._rest_bytes, end - at)
                at += step
                self._rest_bytes -= step
            else:
                missing = _HEADER_BYTES - len(self._head)
                self._head += data[at : at + missing]
                at += missing
                if len(self._head) < _HEADER_BYTES:
                    return
                self._rest_bytes = int.from_bytes(self._head[:3], "big")
                self._judge(self._head[3], self._head[4], self._rest_bytes, now_ns)
                self._head.clear()
            if not self._rest_bytes and self._block_ends:
                self._block_since_ns = 0

    def sent_data(self, frames: int) -> None:
        """So many frames of data went to the client, who will answer each with a window or two."""
        self._chores.give(2 * frames)

    def check_time(self, now_ns: int) -> None:
        """Raise ``Abuse`` if a header block has been under way for too long."""
        if self._block_since_ns and now_ns - self._block_since_ns > self._header_timeout_ns:
            raise Abuse("headers took too long")

    def _judge(self, kind: int, flags: int, length_bytes: int, now_ns: int) -> None:
        if length_bytes > FRAME_LIMIT_BYTES:
            raise Abuse(f"a frame is longer than {FRAME_LIMIT_BYTES} bytes")
        if kind in (_HEADERS, _CONTINUATION):
            self._judge_block(kind, flags, length_bytes, now_ns)
        elif kind == _RST_STREAM:
            if not self._resets.take(now_ns):
                raise Abuse(f"more than {_RESETS_PER_S} streams a second are reset")
        elif kind == _DATA and (length_bytes >= _SMALL_DATA_BYTES or flags & _END_STREAM):
            return
        elif not self._chores.take(now_ns):
            raise Abuse(f"more than {_CHORES_PER_S} frames a second that carry nothing")

    def _judge_block(self, kind: int, flags: int, length_bytes: int, now_ns: int) -> None:
        if kind == _HEADERS:
            self._block_bytes, self._continuations = 0, 0
            self._block_since_ns = now_ns
        else:
            self._continuations += 1
        self._block_bytes += length_bytes
        self._block_ends = bool(flags & _END_HEADERS)
        if self._block_bytes > self._block_limit_bytes or self._continuations > _CONTINUATIONS_LIMIT:
            raise Abuse("the headers of a request do not end")
