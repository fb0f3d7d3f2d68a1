"""One request on an HTTP/2 connection, while it is read and while its answer is sent."""

from __future__ import annotations

from collections.abc import Iterable

from hpack import NeverIndexedHeaderTuple

from setpoint.core import Limits, RequestError, SetpointError
from setpoint.node.http.exchange import Answering, Exchange, add_repeated
from setpoint.node.http.head import Headers, date_value
from setpoint.node.http.pace import Pace
from setpoint.node.http.refusals import body_too_large, header_too_large, too_many_headers

Fields = list[tuple[bytes, bytes]]
_LONGEST_LENGTH_DIGITS = 18


class Stream(Exchange):
    """An exchange, and what the connection has to remember of it.

    Attributes:
        stream_id: odd, counting up.
        whole: the request is here to its end.
        counted: the server counts it as in flight.
        body_bytes: received so far.
        outgoing: what of the answer waits for the client's window.
        ending: nothing of the answer comes behind ``outgoing``.
        waiting_since_ns: since when the client's window is shut; 0 while it is open.
        pace: of the body.
    """

    __slots__ = (
        "body_bytes",
        "counted",
        "ending",
        "outgoing",
        "pace",
        "parts",
        "stream_id",
        "waiting_since_ns",
        "whole",
    )

    def __init__(self, connection: Answering, stream_id: int, limits: Limits, now_ns: int) -> None:
        super().__init__(connection)
        self.stream_id = stream_id
        self.whole = False
        self.counted = False
        self.parts: list[bytes] = []
        self.body_bytes = 0
        self.outgoing = bytearray()
        self.ending = False
        self.waiting_since_ns = 0
        self.pace = Pace(limits, now_ns)

    def take_head(self, fields: Iterable[tuple[bytes, bytes]], limits: Limits) -> SetpointError | None:
        """Read the request's fields; returns why the request is refused, if it is."""
        count = 0
        host = b""
        for name, value in fields:
            if name[:1] != b":":
                count += 1
                if name in self.headers:
                    add_repeated(self.headers, name, value)
                else:
                    self.headers[name] = value
            elif name == b":method":
                self.method = value
            elif name == b":path":
                self.path, _, self.query = value.partition(b"?")
            elif name == b":authority":
                host = value
        if host:
            self.headers[b"host"] = host
        if self.head_bytes > limits.header_limit_bytes:
            return header_too_large(limits)
        if count > limits.header_count_limit:
            return too_many_headers(limits)
        if not self.path or not self.method:
            return RequestError("expected a request with a method and a path")
        declared = self.headers.get(b"content-length", b"0")
        if len(declared) > _LONGEST_LENGTH_DIGITS or int(declared) > limits.body_limit_bytes:
            return body_too_large(limits)
        return None

    def take_body(self) -> None:
        """The body is here whole."""
        self.whole = True
        if self.parts:
            self.body = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
            self.parts = []


def answer_fields(
    stream: Exchange, status: int, content_type: bytes, length_bytes: int | None, more: Headers
) -> Fields:
    """The fields of an answer; without a length it is a stream.

    Those whose value is another for each answer are kept out of the compressor's table, where they would only drive out
    what repeats.
    """
    fields: Fields = [(b":status", b"%d" % status)]
    if length_bytes is None:
        fields += [(b"content-type", content_type), (b"cache-control", b"no-store")]
    elif status != 204:
        fields += [(b"content-type", content_type), NeverIndexedHeaderTuple(b"content-length", b"%d" % length_bytes)]
    fields.append(NeverIndexedHeaderTuple(b"x-request-id", stream.request_id))
    fields += more
    for line in stream.lines.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b": ")
        changing = name in (b"server-timing", b"traceresponse")
        fields.append(NeverIndexedHeaderTuple(name, value) if changing else (name, value))
    fields += [NeverIndexedHeaderTuple(b"date", date_value()), (b"server", b"setpoint")]
    return fields
