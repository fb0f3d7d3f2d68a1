"""Server-sent events. Source: WHATWG HTML, section 9.2."""

from __future__ import annotations

import msgspec

from setpoint.core import SetpointError

CONTENT_TYPE = b"text/event-stream; charset=utf-8"


def event(json: bytes) -> bytes:
    """One event whose data is a JSON document without line breaks."""
    return b"data: %b\n\n" % json


def error_event(error: SetpointError) -> bytes:
    """The event with which a stream breaks off, since its status line has left long ago."""
    return b"event: error\n" + event(msgspec.json.encode({"error": error.message}))
