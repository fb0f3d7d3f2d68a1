"""The clock port: everything that needs the time is given one of these."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock. Tests and the simulator pass one whose time they move themselves."""

    def now_ns(self) -> int:
        """Nanoseconds since an arbitrary origin; never goes backwards."""
        ...


class SystemClock:
    """The machine's monotonic clock, shared by all processes of one machine (``CLOCK_MONOTONIC``)."""

    # The function itself and not a method around it: the hot path asks several times a request.
    now_ns = staticmethod(time.monotonic_ns)
