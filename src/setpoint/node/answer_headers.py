"""What an answer says of itself besides its body: which model, which variant of it, and where the time went.

``Server-Timing`` is https://www.w3.org/TR/server-timing/: durations in milliseconds, which browsers show.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from setpoint.core import StepTime
from setpoint.node.http import TraceContext

_RUNS_REMEMBERED = 64
"""Batches whose part of the lines is kept: it is the same for every request of a batch."""


def model_line(name: str, digest: str) -> bytes:
    """The header line that names a model by its content, ready for ``Exchange.lines``."""
    return b"setpoint-model: %b@%b\r\n" % (name.encode(), digest.encode())


def run_lines(variant: str, queue_ns: int, run_ns: int) -> bytes:
    """Header lines of an answer that was computed, ready for ``Exchange.lines``.

    Args:
        variant: which of the model's variants ran; empty where none did.
        queue_ns: from the request's arrival to the beginning of its batch.
        run_ns: what its batch took in the worker; 0 while it runs.
    """
    if not variant:
        return b""
    return b"server-timing: queue;dur=%.3f%b" % (queue_ns * 1e-6, _of_batch(variant, run_ns))


def step_lines(steps: Sequence[StepTime], trace: TraceContext | None) -> bytes:
    """The header line that says what each step of a composition took; empty without steps.

    Args:
        steps: those that are done.
        trace: that the client's request belongs to; each step is a span of its own in it then.
    """
    if not steps:
        return b""
    entries = []
    for step in steps:
        span = b", span %b" % trace.child().span_id if trace is not None else b""
        entries.append(
            b'%b;dur=%.3f;desc="%d rows, queue %.3f ms%b"'
            % (step.step.encode(), step.run_ns * 1e-6, step.rows, step.queue_ns * 1e-6, span)
        )
    return b"server-timing: %b\r\n" % b", ".join(entries)


def metadata_of(lines: bytes) -> tuple[tuple[str, str], ...]:
    """The same lines as names and values, which is how gRPC takes them."""
    return tuple([(name, value) for name, _, value in (one.partition(": ") for one in lines.decode().splitlines())])


@lru_cache(_RUNS_REMEMBERED)
def _of_batch(variant: str, run_ns: int) -> bytes:
    run = b", run;dur=%.3f" % (run_ns * 1e-6) if run_ns else b""
    return b"%b\r\nsetpoint-variant: %b\r\n" % (run, variant.encode("ascii", "backslashreplace"))
