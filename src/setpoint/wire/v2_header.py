"""The header that says where a request's JSON ends and its binary tensors begin."""

from __future__ import annotations

from setpoint.core import InvalidRequest

JSON_LENGTH = b"inference-header-content-length"
BINARY = b"application/octet-stream"
_LONGEST_NUMBER = 12


def json_length(value: bytes | None, body_bytes: int) -> int | None:
    """Length of the JSON at the beginning of a body; None without the header: then all of it is JSON.

    Args:
        value: of ``Inference-Header-Content-Length``.
        body_bytes: of the body, decompressed.

    Raises:
        InvalidRequest: not a length within the body.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isdigit() and len(text) <= _LONGEST_NUMBER and int(text) <= body_bytes:
        return int(text)
    raise InvalidRequest(
        f"Inference-Header-Content-Length: expected the length of the JSON, up to the body's {body_bytes} bytes, got "
        f"{value[:40].decode('latin-1')!r}"
    )
