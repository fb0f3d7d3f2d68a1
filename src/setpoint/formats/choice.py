"""Two forms of one model that answer alike: which is quicker here. Measured when packing, in turns, and remembered.

A visit to one form is followed by one to the other, and their ratio counts, so that whatever else the machine does
falls on both. What was measured is kept by content and machine: packing the same source again gives the same bundle.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec

from setpoint.machine import fingerprint

BUDGET_S = 0.6
_ROUNDS_LEAST, _ROUNDS_MOST = 5, 25
_VISIT_NS = 1_000_000
_RUNS_MOST = 100
Run = Callable[[int], Any]
"""Runs a batch of so many rows."""
_folder: ContextVar[Path | None] = ContextVar("folder of remembered measurements", default=None)


class Timed(msgspec.Struct, frozen=True):
    """Medians at one batch size.

    Attributes:
        rows: of the batch.
        first_ms, second_ms: of one run of each form.
        ratio: what the second takes over what the first takes, the median over rounds.
    """

    rows: int
    first_ms: float
    second_ms: float
    ratio: float


class Comparison(msgspec.Struct, frozen=True):
    """What was measured, by batch size."""

    sizes: tuple[Timed, ...]

    @property
    def ratio(self) -> float:
        """The geometric mean over the sizes: below 1 the second form is the quicker one."""
        return math.exp(statistics.fmean(math.log(size.ratio) for size in self.sizes))

    def words(self, first: str, second: str) -> str:
        """Both numbers at every size."""
        told = (
            f"{one.rows} row{'s' * (one.rows > 1)} {one.first_ms:.3g} ms {first} and {one.second_ms:.3g} ms {second}"
            for one in self.sizes
        )
        return f"measured with 1 thread: {', '.join(told)}"


def compare_speed(
    first: Run,
    second: Run,
    sizes: Sequence[int],
    *,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    budget_s: float = BUDGET_S,
) -> Comparison:
    """Measure two forms in turns.

    Args:
        first, second: run a batch of so many rows; both can.
        sizes: of batches.
        clock_ns: time in nanoseconds.
        budget_s: no new round begins after it, beyond the least number of rounds.
    """
    start_ns = clock_ns()
    visits: dict[int, list[tuple[float, float]]] = {rows: [] for rows in sizes}
    runs = {}
    for rows in sizes:
        once_ns = _visit_ns((first, second), rows, 1, clock_ns)
        runs[rows] = max(1, min(_RUNS_MOST, round(_VISIT_NS / max(1.0, *once_ns))))
    for round_ in range(_ROUNDS_MOST):
        if round_ >= _ROUNDS_LEAST and clock_ns() - start_ns > budget_s * 1e9:
            break
        for rows in sizes:
            if round_ % 2:  # whoever comes second finds the caches as the other left them
                second_ns, first_ns = _visit_ns((second, first), rows, runs[rows], clock_ns)
            else:
                first_ns, second_ns = _visit_ns((first, second), rows, runs[rows], clock_ns)
            visits[rows].append((first_ns, second_ns))
    return Comparison(tuple(_timed(rows, pairs) for rows, pairs in visits.items()))


def _visit_ns(forms: Sequence[Run], rows: int, count: int, clock_ns: Callable[[], int]) -> tuple[float, float]:
    taken = []
    for run in forms:
        begin_ns = clock_ns()
        for _ in range(count):
            run(rows)
        taken.append((clock_ns() - begin_ns) / count)
    return taken[0], taken[1]


def _timed(rows: int, pairs: list[tuple[float, float]]) -> Timed:
    first_ms, second_ms = (statistics.median(pair[form] for pair in pairs) / 1e6 for form in (0, 1))
    ratio = statistics.median(max(second, 1.0) / max(first, 1.0) for first, second in pairs)
    return Timed(rows, first_ms, second_ms, ratio)


@contextlib.contextmanager
def remembering(folder: Path | None) -> Iterator[None]:
    """What is measured inside is kept in a folder; None keeps nothing."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def remembered(what: Sequence[str], measure: Callable[[], Comparison]) -> Comparison:
    """What was measured of the same on this machine before, else ``measure()``, kept for the next time.

    Args:
        what: names the two forms by content: digests, versions of libraries.
        measure: measures them.
    """
    folder = _folder.get()
    if folder is None:
        return measure()
    key = hashlib.sha256(msgspec.json.encode([*what, fingerprint()])).hexdigest()
    place = folder / f"{key}.json"
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(place.read_bytes(), type=Comparison)
    found = measure()
    with contextlib.suppress(OSError):  # a registry that cannot be written is told when the bundle is
        folder.mkdir(parents=True, exist_ok=True)
        partial = place.with_suffix(f".{os.getpid()}")
        partial.write_bytes(msgspec.json.encode(found))
        partial.replace(place)
    return found
