"""What an answer says of itself besides its body: which model, which variant of it, and where the time went.

``Server-Timing`` is https://www.w3.org/TR/server-timing/: durations in milliseconds, which browsers show.
"""

from __future__ import annotations

_variants: dict[str, bytes] = {}


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
    named = _variants.get(variant) or _variant_line(variant)
    if not run_ns:
        return b"server-timing: queue;dur=%.3f\r\n%b" % (queue_ns * 1e-6, named)
    return b"server-timing: queue;dur=%.3f, run;dur=%.3f\r\n%b" % (queue_ns * 1e-6, run_ns * 1e-6, named)


def metadata_of(lines: bytes) -> tuple[tuple[str, str], ...]:
    """The same lines as names and values, which is how gRPC takes them."""
    return tuple([(name, value) for name, _, value in (one.partition(": ") for one in lines.decode().splitlines())])


def _variant_line(variant: str) -> bytes:
    line = _variants[variant] = b"setpoint-variant: %b\r\n" % variant.encode("ascii", "backslashreplace")
    return line
