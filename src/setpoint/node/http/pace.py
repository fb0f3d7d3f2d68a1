"""Whether a request's body comes fast enough: in all, and lately. Pure: the time is given."""

from __future__ import annotations

from setpoint.core import Limits, RequestTimeout

_WINDOW_S = 5.0
"""How long a body may come slowly or not at all: networks stall, and so do busy clients."""


class Pace:
    """Watches one body.

    A time limit alone would have to be as long as the largest body takes on the slowest line, and for so long somebody
    who sends a byte a second could hold the memory of what he sent at first.
    """

    __slots__ = ("_began_ns", "_bytes", "_limits", "_since_ns")

    def __init__(self, limits: Limits, began_ns: int) -> None:
        self._limits = limits
        self._began_ns = began_ns
        self._since_ns = began_ns
        self._bytes = 0

    def judge(self, now_ns: int, received_bytes: int) -> RequestTimeout | None:
        """Why to give up on it, if it is to be; ask about twice a second with the bytes received so far."""
        limits = self._limits
        if now_ns - self._began_ns > limits.body_timeout_s * 1e9:
            return RequestTimeout(f"the request's body took longer than {limits.body_timeout_s:g} s")
        elapsed_s = (now_ns - self._since_ns) / 1e9
        if elapsed_s < _WINDOW_S:
            return None
        if received_bytes - self._bytes < limits.body_rate_bytes_per_s * elapsed_s:
            return RequestTimeout(f"the request's body came slower than {limits.body_rate_bytes_per_s} bytes a second")
        self._since_ns, self._bytes = now_ns, received_bytes
        return None
