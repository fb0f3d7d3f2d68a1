"""What a variant answers to examples, asked through the worker process that serves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setpoint.core import Limits, ModelManifest
from setpoint.optimize.feed import Examples
from setpoint.optimize.seat import Seat

ROWS_AT_ONCE = 16
"""A middling batch. Graphs that quantise as they run take one range for a batch, so its size is part of the answer."""


async def answers_of(
    manifest: ModelManifest, folder: Path, variant: str, threads: int, examples: Examples, limits: Limits
) -> dict[str, NDArray[Any]]:
    """Every output for every example, rows first, by output name.

    Raises:
        SetpointError: the variant cannot be loaded, or failed.
    """
    signature = manifest.signature
    assert signature is not None
    seat = Seat(manifest, folder, variant, threads, limits)
    try:
        await seat.ready()
        parts = []
        step = ROWS_AT_ONCE if signature.batched else examples.rows
        for start in range(0, examples.rows, step):
            batch = [array[start : start + step] for array in examples.arrays]
            parts.append((await seat.run(batch, keep=True)).outputs)
    finally:
        await seat.close()
    return {
        spec.name: np.concatenate([np.atleast_1d(part[index]) for part in parts])
        for index, spec in enumerate(signature.outputs)
    }
