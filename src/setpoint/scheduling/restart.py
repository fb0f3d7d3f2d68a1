"""When to start the next worker after one was lost."""

from __future__ import annotations

import msgspec


class RestartPolicy(msgspec.Struct, frozen=True):
    """Immediately after a worker that served; with growing patience after workers that never became ready.

    Attributes:
        first_delay_s: after the first failed start.
        longest_delay_s: the delay doubles up to this.
    """

    first_delay_s: float = 0.25
    longest_delay_s: float = 15.0

    def delay_s(self, failed_starts: int) -> float:
        """Seconds to wait before the next start.

        Args:
            failed_starts: starts in a row that ended before the worker was ready; 0 after one that had served.
        """
        if failed_starts <= 0:
            return 0.0
        return float(min(self.longest_delay_s, self.first_delay_s * 2 ** min(failed_starts - 1, 30)))
