"""What is counted of a model's batches: how many of which size, what their parts took, how well that was foreseen."""

from __future__ import annotations

import msgspec

from setpoint.observe.histogram import Buckets
from setpoint.observe.rolling import RollingHistogram

ROW_BOUNDS: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_EXACT_SIZES = 512
"""Different sizes that are counted each for itself; larger ones, when there are more, by the next power of two."""


class BatchSize(msgspec.Struct):
    """All batches of one size; times are sums since the start.

    Attributes:
        rows: of each batch.
        count: batches.
        input_ns: from having been put together to lying in the worker's memory.
        run_ns: in the engine.
        output_ns: the rest, until the node had the answers.
    """

    rows: int
    count: int = 0
    input_ns: int = 0
    run_ns: int = 0
    output_ns: int = 0


class BatchCounts:
    """Batches that a worker ran.

    Attributes:
        sizes: by rows.
        count: batches, whether or not it is known what they took.
        rows: of all of them.
        ratio_ppm: observed ÷ predicted time from a batch's start until its worker was free, in millionths.
        shared_input_ns: writing inputs, the whole batch's counted for each request in it.
        last_ns: when the last one ended, on the node's clock; 0 before.
        told_output_ns: the most that was told of handling outputs; what is told next is not less.
    """

    __slots__ = ("count", "last_ns", "ratio_ppm", "rows", "shared_input_ns", "sizes", "told_output_ns")

    def __init__(self) -> None:
        self.sizes: dict[int, BatchSize] = {}
        self.count = 0
        self.rows = 0
        self.shared_input_ns = 0
        self.ratio_ppm = RollingHistogram()
        self.last_ns = 0
        self.told_output_ns = 0

    def add(
        self,
        rows: int,
        now_ns: int = 0,
        run_ns: int = 0,
        span_ns: int = 0,
        input_ns: int = 0,
        predicted_ns: int = 0,
        requests: int = 1,
    ) -> None:
        """Count a batch.

        Args:
            rows: in it.
            now_ns: the time.
            run_ns: what the engine took.
            span_ns: from its start until its worker was free again; the run and what lies around it.
            input_ns: what writing its inputs took, a part of that.
            predicted_ns: what the scheduler expected of ``span_ns``; 0 where it expected nothing.
            requests: in it.
        """
        self.last_ns = now_ns
        self.count += 1
        self.rows += rows
        size = self.sizes.get(rows)
        if size is None:
            size = self._new_size(rows)
        size.count += 1
        size.input_ns += input_ns
        self.shared_input_ns += input_ns * requests
        size.run_ns += run_ns
        rest_ns = span_ns - input_ns - run_ns
        if rest_ns > 0:
            size.output_ns += rest_ns
        if predicted_ns > 0:
            self.ratio_ppm.add(span_ns * 1_000_000 // predicted_ns)

    def _new_size(self, rows: int) -> BatchSize:
        if len(self.sizes) >= _EXACT_SIZES:
            rows = 1 << (rows - 1).bit_length()
        return self.sizes.setdefault(rows, BatchSize(rows))

    def buckets(self) -> Buckets:
        """For a Prometheus page."""
        cumulative = [(bound, sum(s.count for s in self.sizes.values() if s.rows <= bound)) for bound in ROW_BOUNDS]
        return Buckets(tuple(cumulative), self.count, self.rows)
