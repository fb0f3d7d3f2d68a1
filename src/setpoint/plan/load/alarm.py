"""A timer that is right to some ten microseconds.

Event loops, libuv's and asyncio's alike, wait in whole milliseconds: at a deadline of 10 ms that alone would void a
run. Spinning instead would take a core from the server. Linux has timers that are file descriptors; where there are
none, the loop's own are used, and the lag that the run reports says what that costs.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_NS_PER_S = 1_000_000_000
_Times = ctypes.c_long * 4  # struct itimerspec: interval and value, each seconds and nanoseconds


class Alarm:
    """Calls ``ring`` once after each ``set``, not before that time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._file = -1
        self._handle: asyncio.TimerHandle | None = None
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._file = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
            if self._file >= 0:
                self._times = _Times(0, 0, 0, 0)
                loop.add_reader(self._file, self._readable)

    def set(self, at_ns: int) -> None:
        """Ring at a time of ``time.monotonic_ns``; one in the past rings in the loop's next turn. Replaces the last."""
        if self._file >= 0:
            self._times[2], self._times[3] = divmod(max(1, at_ns), _NS_PER_S)
            if self._libc.timerfd_settime(self._file, _ABSOLUTE, ctypes.byref(self._times), None):
                raise OSError(ctypes.get_errno(), "timerfd_settime")
            return
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop.call_later(max(0.0, (at_ns - time.monotonic_ns()) / _NS_PER_S), self._ring)

    def close(self) -> None:
        """Ring no more."""
        if self._file >= 0:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = -1
        elif self._handle is not None:
            self._handle.cancel()

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError):  # set again since it became readable
            os.read(self._file, 8)
            self._ring()
