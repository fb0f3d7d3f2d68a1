"""What waits for one model, and how much of it goes together: the pure queue and batch sizes, with their limits."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import cast

from setpoint.core import Endpoint, Limits, QueueFull
from setpoint.scheduling import BatchQueue, BatchSizer
from setpoint.worker import CALL_LIMIT_REQUESTS, Request

_NS = 1_000_000_000
_RATE_WEIGHT = 0.05
"""Of the newest batch in the moving rate that refusals report."""


class Backlog:
    """Waiting requests of one model.

    Attributes:
        queue: in which they wait.
    """

    def __init__(self, model: str, endpoints: Sequence[Endpoint], limits: Limits, workers: int) -> None:
        self.queue: BatchQueue[Request] = BatchQueue(limits.queue_limit_rows)
        self._model = model
        self._limit_rows = limits.queue_limit_rows
        self._workers = workers
        self._sizers = {
            endpoint.name: BatchSizer(min(max(1, endpoint.batch_rows), CALL_LIMIT_REQUESTS)) for endpoint in endpoints
        }
        self._rows_per_s = 0.0

    def push(self, request: Request) -> None:
        """Let a request wait.

        Raises:
            QueueFull: too much waits already; says how fast the model works now.
        """
        if not self.queue.push(request):
            rows = self.queue.rows
            raise QueueFull(
                f"the queue of model {self._model!r} is full ({rows} rows, limit {self._limit_rows}); "
                f"it now computes {self._rows_per_s:.0f} rows/s",
                rows / self._rows_per_s if self._rows_per_s else 1.0,
            )

    def take(self) -> list[Request]:
        """The next batch; empty when nothing waits."""
        return self.queue.take(self._batch_rows)

    def observe(self, batch: Sequence[Request], rows: int, run_ns: int) -> None:
        """Learn from a batch that ran."""
        first = batch[0]
        if not first.alone and isinstance(first.lane, tuple):
            self._sizers[first.endpoint].observe(first.lane, rows, run_ns)
        rows_per_s = rows * _NS / max(run_ns, 1) * self._workers
        self._rows_per_s += _RATE_WEIGHT * (rows_per_s - self._rows_per_s) if self._rows_per_s else rows_per_s

    def _batch_rows(self, lane: Hashable) -> int:
        endpoint: str = cast("tuple[str, ...]", lane)[0]
        return self._sizers[endpoint].batch_rows(lane)
