"""What a variant answers to examples, asked through the worker process that serves it."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import Limits, ModelManifest
from setpoint.engines import CPU
from setpoint.formats import within_rounding
from setpoint.optimize.feed import Examples
from setpoint.optimize.seat import Seat

ROWS_AT_ONCE = 16
"""A middling batch. Graphs that quantise as they run take one range for a batch, so its size is part of the answer."""

ROWS_LEAST = 400
"""Fewer could not show that a loss is below a per cent."""


class Answers(msgspec.Struct, frozen=True):
    """What came.

    Attributes:
        outputs: every output for every example, rows first, by name.
        rows: answered; fewer than were asked for where the time ran out.
        run_ms: the median time of a batch of ``ROWS_AT_ONCE``; a first idea of the variant's speed.
    """

    outputs: dict[str, NDArray[Any]]
    rows: int
    run_ms: float


def same_answers(expected: dict[str, NDArray[Any]], actual: dict[str, NDArray[Any]]) -> bool:
    """Whether two sets of answers differ by rounding only."""
    return all(within_rounding(array, actual[name]) for name, array in expected.items())


async def answers_of(
    manifest: ModelManifest,
    folder: Path,
    variant: str,
    threads: int,
    examples: Examples,
    limits: Limits,
    limit_s: float = math.inf,
    device: str = CPU,
) -> Answers:
    """Ask about every example, with one worker; after ``limit_s`` about no more, unless there are too few to judge by.

    Raises:
        SetpointError: the variant cannot be loaded, or failed.
    """
    signature = manifest.signature
    assert signature is not None
    seat = Seat(manifest, folder, variant, threads, limits, device=device)
    try:
        await seat.ready()
        parts = []
        runs_ms = []
        spent_ms = 0.0
        step = ROWS_AT_ONCE if signature.batched else examples.rows
        for start in range(0, examples.rows, step):
            batch = [array[start : start + step] for array in examples.arrays]
            answered = await seat.run(batch, keep=True)
            parts.append(answered.outputs)
            runs_ms.append(answered.run_ms)
            spent_ms += answered.through_ms
            if spent_ms > limit_s * 1e3 and start + step >= ROWS_LEAST:
                break
    finally:
        await seat.close()
    outputs = {
        spec.name: np.concatenate([np.atleast_1d(part[index]) for part in parts])
        for index, spec in enumerate(signature.outputs)
    }
    rows = len(next(iter(outputs.values()))) if signature.batched else examples.rows
    return Answers(outputs, rows, statistics.median(runs_ms))
