"""HTTP/1.1 for the client's side, without a socket: requests to bytes, bytes to replies."""

from __future__ import annotations

import httptools

from setpoint.client.exchange import Address, Part, Reply, Request

ANSWER_LIMIT_BYTES = 1 << 30
"""Of one answer's body; a server that sends more is left."""
JOIN_LIMIT_BYTES = 64 * 1024
"""A body up to here is sent in one piece with its head; a larger one is not copied for that."""


class Malformed(Exception):
    """What came is no HTTP answer, or is beyond the limit."""


def request_parts(request: Request, address: Address) -> list[Part]:
    """What to send, in order."""
    size_bytes = sum(len(part) if isinstance(part, bytes) else part.nbytes for part in request.parts)
    lines = [f"{request.method} {address.prefix}{request.path} HTTP/1.1", f"host: {address}"]
    if request.method == "POST":
        lines.append(f"content-length: {size_bytes}")
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    if size_bytes <= JOIN_LIMIT_BYTES:
        return [b"".join((head, *request.parts))]
    return [head, *request.parts]


class ReplyReader:
    """Reads one answer as its bytes come.

    Attributes:
        head_complete: status and headers are known.
        complete: all of it has come.
        status: 0 before the head.
        headers: by name in lower case.
    """

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._chunks: list[bytes] = []
        self._size_bytes = 0
        self._to_the_end = False
        self._informed = False
        self._kept = False
        self.head_complete = False
        self.complete = False
        self.status = 0
        self.headers: dict[str, str] = {}

    def feed(self, received: bytes) -> None:
        """Take what came.

        Raises:
            Malformed: it is no HTTP, or too much.
        """
        try:
            self._parser.feed_data(received)
        except httptools.HttpParserError as error:
            raise Malformed(f"the answer is not HTTP: {error}") from error
        if self._size_bytes > ANSWER_LIMIT_BYTES:
            raise Malformed(f"the answer has more than {ANSWER_LIMIT_BYTES} bytes")

    def end(self) -> bool:
        """The connection has ended; returns whether the answer had ended too."""
        if self.head_complete and self._to_the_end:
            self.complete = True
        return self.complete

    @property
    def keep_alive(self) -> bool:
        """Whether the connection can carry another request."""
        return self.complete and not self._to_the_end and self._kept

    def take_chunks(self) -> list[bytes]:
        """Pieces of the body that came since the last call."""
        chunks, self._chunks = self._chunks, []
        self._size_bytes = 0
        return chunks

    def reply(self) -> Reply:
        """The answer; what was taken is not in it."""
        return Reply(self.status, self.headers, bytearray().join(self._chunks))

    # --- the parser's callbacks ----------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head has come, or that of an interim answer, which is not for us."""
        status = self._parser.get_status_code()
        if status < 200:
            self.headers = {}
            self._informed = True
            return
        self._informed = False
        self.status = status
        self.head_complete = True
        framed = "content-length" in self.headers or "chunked" in self.headers.get("transfer-encoding", "").lower()
        self._to_the_end = not framed and status not in (204, 304)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._size_bytes += len(body)
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        """All of it has come."""
        if self._informed:
            self._informed = False
        else:
            self._kept = bool(self._parser.should_keep_alive())  # afterwards it has forgotten
            self.complete = True
