"""Entries of a study as a test says them."""

from collections.abc import Callable

import pytest

from setpoint.core import LatencyPoint, Profile, Variant
from setpoint.optimize.metrics import Verdict
from setpoint.optimize.paired import Loss
from setpoint.optimize.profiler import Candidate, Measured
from setpoint.optimize.study import Entry

MIB = 1 << 20


def measured(name: str, ms: dict[int, float], layout: tuple[int, int] = (1, 2), memory_mib: int = 100, **fields: float):
    """``ms``: the median run time by rows; p95 and p99 lie 5 and 10 % above."""
    workers, threads = layout
    points = tuple(LatencyPoint(rows, value, 1.05 * value, 1.1 * value, 50) for rows, value in ms.items())
    profile = Profile(name, threads, "here", points, memory_mib * MIB, 10.0, 1.0)
    return Measured(Candidate(name, threads, workers), profile, **fields)


@pytest.fixture
def entry() -> Callable[..., Entry]:
    """``entry("int8", {1: 2.0, 8: 9.0}, loss=0.004, speedup=2.0)`` lost at most 0.4 %; without a loss, the original."""

    def make(
        name: str, ms: dict[int, float], *, loss: float | None = None, layouts=((1, 2),), **fields: float
    ) -> Entry:
        verdict = None if loss is None else Verdict("accuracy", 0.9, 0.9 - loss / 2, Loss(loss / 2, 0.0, loss, 1000, 5))
        variant = Variant(name, "onnxruntime", f"{name}.onnx", accuracy=1.0 if loss is None else 1.0 - loss)
        found = tuple(measured(name, ms, layout, **fields) for layout in layouts)
        return Entry(variant, "", MIB, verdict, found)

    return make
