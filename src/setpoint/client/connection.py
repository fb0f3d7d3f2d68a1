"""One kept-alive HTTP connection for each thread that asks."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec

from setpoint.core import (
    DeadlineExceeded,
    InvalidConfiguration,
    InvalidRequest,
    MethodNotAllowed,
    ModelError,
    NotFound,
    NotReady,
    RefusedError,
    RequestTimeout,
    RequestTooLarge,
    SetpointError,
    UnsupportedMedia,
)

_BY_STATUS: dict[int, type[SetpointError]] = {
    400: InvalidRequest,
    404: NotFound,
    405: MethodNotAllowed,
    408: RequestTimeout,
    413: RequestTooLarge,
    415: UnsupportedMedia,
    431: RequestTooLarge,
    500: ModelError,
    503: RefusedError,
    504: DeadlineExceeded,
}


class Connection:
    """HTTP to one node."""

    def __init__(self, url: str, timeout_s: float) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise InvalidConfiguration(f"expected a URL such as http://127.0.0.1:8000, got {url!r}")
        self._host = parts.hostname
        self._port = parts.port or 80
        self._prefix = parts.path.rstrip("/")
        self._timeout_s = timeout_s
        self._local = threading.local()

    def request(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json"
    ) -> bytes:
        """Send a request and return the body of its answer.

        Raises:
            SetpointError: the node answered with an error; the class is the node's own.
            NotReady: nothing answers at the address.
        """
        with self._exchange(method, path, body, content_type) as response:
            return response.read()

    def events(self, path: str, body: bytes, content_type: str = "application/json") -> Iterator[bytes]:
        """Send a request and yield the data of each server-sent event of its answer.

        Raises:
            SetpointError: the node answered with an error, or the stream broke off with one.
        """
        response = self._exchange("POST", path, body, content_type)
        broken = False
        try:
            for line in response:
                if line.startswith(b"event: error"):
                    broken = True
                elif line.startswith(b"data: "):
                    data = line[6:].rstrip(b"\r\n")
                    if broken:
                        raise ModelError(_message(data))
                    yield data
        finally:
            if not response.isclosed():  # left unread by an error or by its consumer: nothing can follow it here
                self.close()

    def close(self) -> None:
        """Close this thread's connection."""
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()

    def _exchange(self, method: str, path: str, body: bytes | None, content_type: str) -> http.client.HTTPResponse:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        reused = connection is not None and connection.sock is not None
        if connection is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
            self._local.connection = connection
        headers = {"content-type": content_type} if body is not None else {}
        try:
            connection.request(method, self._prefix + path, body, headers)
            response = connection.getresponse()
        except TimeoutError as error:
            connection.close()
            raise DeadlineExceeded(f"no answer from {self._host}:{self._port} within {self._timeout_s:g} s") from error
        except (http.client.HTTPException, OSError) as error:
            connection.close()
            if reused and isinstance(error, http.client.RemoteDisconnected | BrokenPipeError | ConnectionResetError):
                # The node closed the idle connection before it read anything of this request: a new one may carry it.
                return self._exchange(method, path, body, content_type)
            raise NotReady(f"nothing answers at {self._host}:{self._port}: {error}") from error
        if response.status != 200:
            message = _message(response.read())
            raise _BY_STATUS.get(response.status, SetpointError)(message)
        return response


def _message(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body, type=dict[str, str])["error"])
    except (msgspec.MsgspecError, KeyError):
        return body.decode("utf-8", "replace") or "the answer has no body"
