"""What an answer says of itself besides its body: which model, which variant of it, and where the time went.

``Server-Timing`` is https://www.w3.org/TR/server-timing/: durations in milliseconds, which browsers show.
"""

from __future__ import annotations


class AnswerHeaders:
    """Header lines of one model's answers, ready for ``Exchange.lines``.

    Attributes:
        model: the line that names the model by content, for answers that came from no run, such as refusals. Its value
            is what ``setpoint serve`` and ``inspect`` take.
    """

    __slots__ = ("_variants", "model")

    def __init__(self, name: str, digest: str) -> None:
        """For the model ``name`` with the bundle digest ``sha256:…``."""
        self.model = b"setpoint-model: %b@%b\r\n" % (name.encode(), digest.encode())
        self._variants: dict[str, bytes] = {}

    def of_run(self, variant: str, queue_ns: int, run_ns: int) -> bytes:
        """Lines of an answer that was computed.

        Args:
            variant: which of the model's variants ran.
            queue_ns: from the request's arrival to the beginning of its batch.
            run_ns: what its batch took in the worker.
        """
        named = self._variants.get(variant) or self._variant(variant)
        return b"server-timing: queue;dur=%.3f, run;dur=%.3f\r\n%b" % (queue_ns * 1e-6, run_ns * 1e-6, named)

    def _variant(self, variant: str) -> bytes:
        named = variant.encode("ascii", "backslashreplace")
        line = self._variants[variant] = b"setpoint-variant: %b\r\n%b" % (named, self.model)
        return line
