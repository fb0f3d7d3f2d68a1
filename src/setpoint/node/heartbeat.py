"""Measures how late the event loop is, with a beat that the kernel times.

Why not a timer of the loop itself: libuv counts whole milliseconds from when the loop last looked at its clock, so one
that is never late shows up to a millisecond, and one that is shows less than it was.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable

from setpoint.observe import LoopLag, Percentiles

_PERIOD_NS = 25_000_000
"""2,400 beats a minute, so that p99 stands on 24; 40 wake-ups a second cost about 0.1 % of a core."""
_NS_PER_S = 1_000_000_000
_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_beating: Heartbeat | None = None
_TIMER = struct.Struct("@qqqq")  # struct itimerspec: period, then first beat, each in seconds and nanoseconds


class Heartbeat:
    """A beat on the running event loop.

    Attributes:
        lag: how late the loop noticed.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        """Begin to beat. ``now_ns`` must be ``CLOCK_MONOTONIC``.

        Raises:
            OSError: the kernel has no timer for us.
        """
        self._now_ns = now_ns
        first_ns = now_ns() + _PERIOD_NS
        self.lag = LoopLag(first_ns, _PERIOD_NS)
        self._descriptor = _timer(first_ns)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._beat)
        global _beating
        _beating = self

    def _beat(self) -> None:
        now_ns = self._now_ns()
        os.read(self._descriptor, 8)  # how many beats there were; LoopLag counts them by the time
        self.lag.woke(now_ns)

    def close(self) -> None:
        """Beat no more."""
        global _beating
        if _beating is self:
            _beating = None
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)


def last_minute_lag() -> Percentiles | None:
    """Of the heartbeat of this process: it has one event loop that serves. None where none beats yet."""
    return _beating.lag.last_minute() if _beating is not None else None


def _timer(first_ns: int) -> int:
    """A descriptor that can be read at each beat. ``os.timerfd_create`` is Python 3.13's."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    times = _TIMER.pack(*divmod(_PERIOD_NS, _NS_PER_S), *divmod(first_ns, _NS_PER_S))
    if libc.timerfd_settime(descriptor, _ABSOLUTE, times, None) < 0:
        error = ctypes.get_errno()
        os.close(descriptor)
        raise OSError(error, "timerfd_settime")
    return int(descriptor)
