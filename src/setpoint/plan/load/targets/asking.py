"""Asking a server a few things before the load: metadata, documentation, one request on trial."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from setpoint.core import InvalidConfiguration, InvalidRequest, NotReady

TIMEOUT_S = 30.0
Answer = tuple[int, bytes]
"""Status and body."""


def split(url: str) -> SplitResult:
    """The parts of a URL that we can ask.

    Raises:
        InvalidConfiguration: it is neither plain HTTP nor gRPC.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "grpc") or not parts.hostname or parts.fragment:
        raise InvalidConfiguration(
            f"expected a URL such as http://127.0.0.1:8000/v2/models/iris or grpc://127.0.0.1:8001/iris, got {url!r}"
        )
    return parts


def ask(url: SplitResult, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
    """One request on a connection of its own.

    Raises:
        NotReady: nothing answers there.
    """
    assert url.hostname is not None
    connection = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        what = str(error) or type(error).__name__
        raise NotReady(f"{url.hostname}:{url.port or 80} does not answer {method} {path}: {what}") from error
    finally:
        connection.close()


def try_once(url: SplitResult, path: str, body: bytes, headers: Mapping[str, str]) -> float:
    """Send one request on trial, so that a body that fits nothing is one clear error and not thousands of misses.

    What a server may do under load (refuse, fail, break off) is left for the run to count.

    Returns:
        seconds until the answer.

    Raises:
        InvalidRequest: the server says that the request itself is wrong.
        NotReady: it cannot be reached.
    """
    begun_s = time.monotonic()
    try:
        status, answer = ask(url, "POST", path, body, headers)
    except NotReady as error:
        if isinstance(error.__cause__, ConnectionRefusedError | TimeoutError) or not _answers(error):
            raise
        return time.monotonic() - begun_s
    if 300 <= status < 500 and status != 429:
        text = answer[:500].decode("utf-8", "replace").strip()
        raise InvalidRequest(
            f"the server answers {status} to the first request: {text or 'without a body'};"
            " give requests that it accepts with --data, or one with --body"
        )
    return time.monotonic() - begun_s


def _answers(error: NotReady) -> bool:
    """Whether somebody was there: broke off or answered something that is not HTTP."""
    return isinstance(error.__cause__, ConnectionResetError | BrokenPipeError | http.client.HTTPException)
