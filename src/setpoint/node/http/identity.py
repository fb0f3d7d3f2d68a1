"""Which request this is: its id, and its place in a distributed trace.

Sources: W3C Trace Context, https://www.w3.org/TR/trace-context-1/ (``traceparent``, ``tracestate``), and the draft of
its response headers, https://w3c.github.io/trace-context/#trace-context-http-response-headers-format.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from itertools import count

import msgspec

_REQUEST_ID = re.compile(rb"[!-~]{1,128}")
"""Printable, without spaces, of a length that logs can bear. Another one is replaced by ours."""
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE_ID, _NO_SPAN_ID = b"0" * 32, b"0" * 16
_TRACESTATE_LIMIT_BYTES = 512
_TRACESTATE_LIMIT_MEMBERS = 32
_KEY = rb"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_MEMBER = re.compile(_KEY + rb"=[ -+\--<>-~]{0,255}[!-+\--<>-~]")
_SPAN_MASK = (1 << 64) - 1

# Random for each process, counted within it: unique as random ones are, at a tenth of the cost.
_process = os.urandom(6).hex().encode() + b"-"
_numbers = count(1)
_span_base = int.from_bytes(os.urandom(8), "big")


made_request_id: Callable[[], bytes] = map((_process + b"%x").__mod__, _numbers).__next__
"""An id that no other request of any node has. An iterator's method, so that no Python is run for it."""


def given_request_id(value: bytes) -> bytes | None:
    """The client's own id, if it is one."""
    return value if _REQUEST_ID.fullmatch(value) else None


class TraceContext(msgspec.Struct, frozen=True):
    """A request's place in a trace that its client began.

    Attributes:
        trace_id: 32 lower-case hexadecimal digits.
        parent_id: 16 digits, the client's span.
        span_id: 16 digits, ours.
        flags: two digits; the lowest bit says that the client records this trace.
        state: ``tracestate``, vendors' own data to be passed on; empty if there was none or it was malformed.
    """

    trace_id: bytes
    parent_id: bytes
    span_id: bytes
    flags: bytes
    state: bytes = b""

    @property
    def traceparent(self) -> bytes:
        """What those whom we ask on behalf of this request are told."""
        return b"00-%b-%b-%b" % (self.trace_id, self.span_id, self.flags)

    def child(self) -> TraceContext:
        """A span below ours: a part of the same request."""
        return TraceContext(self.trace_id, self.span_id, _made_span_id(), self.flags, self.state)

    @property
    def response_line(self) -> bytes:
        """What the client is told: under which span of ours its request ran."""
        return b"traceresponse: 00-%b-%b-%b\r\n" % (self.trace_id, self.span_id, self.flags)


def trace_context(traceparent: bytes, tracestate: bytes = b"") -> TraceContext | None:
    """Read the headers; a malformed ``traceparent`` counts as none, with its ``tracestate`` (section 3.2.3, 4.3).

    Later versions than 00 are read as far as they look the same, as the specification says.
    """
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return None
    version, trace_id, parent_id, flags, rest = found.groups()
    if version == b"ff" or (version == b"00" and rest) or trace_id == _NO_TRACE_ID or parent_id == _NO_SPAN_ID:
        return None
    if version != b"00":
        flags = b"%02x" % (int(flags, 16) & 1)  # what the other bits of that version mean is not known
    return TraceContext(trace_id, parent_id, _made_span_id(), flags, _checked_state(tracestate))


def _made_span_id() -> bytes:
    # An odd step through all 64-bit numbers: different for each request, and zero at one of 2**64.
    return b"%016x" % (((_span_base + next(_numbers) * 0x9E3779B97F4A7C15) & _SPAN_MASK) or 1)


def _checked_state(tracestate: bytes) -> bytes:
    members = [member.strip(b" \t") for member in tracestate.split(b",")] if tracestate else []
    members = [member for member in members if member]
    if len(members) > _TRACESTATE_LIMIT_MEMBERS or not all(map(_MEMBER.fullmatch, members)):
        return b""
    state = b",".join(members)
    while len(state) > _TRACESTATE_LIMIT_BYTES:  # whole members from the end, section 3.3.1.5
        members.pop()
        state = b",".join(members)
    return state
