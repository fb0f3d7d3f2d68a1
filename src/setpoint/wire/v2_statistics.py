"""Totals since a model's start in Triton's terms, as ``GET …/stats`` and gRPC's ``ModelStatistics`` give them.

Source: Triton, ``extension_statistics.md``. Clients read every key without asking whether it is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec


class Duration(Protocol):
    """How many, and the sum of what they took."""

    @property
    def count(self) -> int:
        """How many."""
        ...

    @property
    def ns(self) -> int:
        """Nanoseconds."""
        ...


class BatchTotals(Protocol):
    """All batches of one size."""

    @property
    def rows(self) -> int:
        """Of each."""
        ...

    @property
    def count(self) -> int:
        """Batches."""
        ...

    @property
    def input_ns(self) -> int:
        """Nanoseconds until they lay before the engine."""
        ...

    @property
    def run_ns(self) -> int:
        """Nanoseconds in it."""
        ...

    @property
    def output_ns(self) -> int:
        """Nanoseconds behind it."""
        ...


class Totals(Protocol):
    """What was counted of one model; ``observe.InferenceTotals`` is one."""

    @property
    def inference_count(self) -> int:
        """Rows."""
        ...

    @property
    def execution_count(self) -> int:
        """Batches."""
        ...

    @property
    def batch_sizes(self) -> Sequence[BatchTotals]:
        """By rows."""
        ...


_STAGES = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")
"""Attributes of totals that are durations."""


def statistics_entry(name: str, version: str, totals: Totals, last_inference_ms: int) -> dict[str, Any]:
    """One model's statistics.

    Args:
        name: of the model.
        version: that is served.
        totals: since its start; they also have a ``Duration`` for each stage.
        last_inference_ms: of the end of its last batch, since 1970; 0 without one.
    """
    return {
        "name": name,
        "version": version,
        "last_inference": last_inference_ms,
        "inference_count": totals.inference_count,
        "execution_count": totals.execution_count,
        "inference_stats": {stage: _duration(getattr(totals, stage)) for stage in _STAGES},
        "response_stats": {},  # of models that answer a request many times over
        "batch_stats": [
            {
                "batch_size": size.rows,
                "compute_input": {"count": size.count, "ns": size.input_ns},
                "compute_infer": {"count": size.count, "ns": size.run_ns},
                "compute_output": {"count": size.count, "ns": size.output_ns},
            }
            for size in totals.batch_sizes
        ],
        "memory_usage": [],
    }


def statistics(entries: Iterable[dict[str, Any]]) -> bytes:
    """Body of ``GET /v2/models/stats``."""
    return msgspec.json.encode({"model_stats": list(entries)})


def _duration(duration: Duration) -> dict[str, int]:
    return {"count": duration.count, "ns": duration.ns}
