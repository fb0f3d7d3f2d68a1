"""The highest values of an output, as text: Triton's ``classification`` extension.

Each element is ``VALUE:INDEX``, or ``VALUE:INDEX:LABEL`` where the bundle names that class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = Mapping[str, Sequence[str]]
"""Output → names of its classes, by index."""
NO_LABELS: Labels = MappingProxyType({})


def classify(scores: NDArray[Any], classes: int, *, batched: bool, labels: Sequence[str] = ()) -> NDArray[np.object_]:
    """The ``classes`` highest elements, highest first; of equal ones the earlier first, NaN last.

    Args:
        scores: of any datatype but BYTES.
        classes: how many at least 1; fewer where there are not as many.
        batched: judge each row of the first axis for itself.
        labels: names of the classes, by index; those behind the last have none.

    Returns:
        BYTES of shape ``[rows, classes]``, or ``[classes]`` without a batch axis.
    """
    rows = scores.shape[0] if batched else 1
    table = scores.reshape(rows, -1)
    if table.dtype.kind not in "biu":
        table = table.astype(np.float64)  # also bfloat16, which sorts by no order of its own
    width = min(classes, table.shape[1])
    # Mirrored before and after: there is no descending stable sort, and of two equals the earlier must come first.
    ascending = np.argsort(_sortable(table)[:, ::-1], axis=1, kind="stable")
    order = table.shape[1] - 1 - ascending[:, ::-1][:, :width]
    texts = np.empty((rows, width), object)
    for row in range(rows):
        values = table[row, order[row]].tolist()
        texts[row] = [_text(value, index, labels) for value, index in zip(values, order[row].tolist(), strict=True)]
    return texts if batched else texts[0]


def _sortable(table: NDArray[Any]) -> NDArray[Any]:
    return np.where(np.isnan(table), -np.inf, table) if table.dtype.kind == "f" else table


def _text(value: Any, index: int, labels: Sequence[str]) -> bytes:
    text = f"{value:f}:{index}" if isinstance(value, float) else f"{int(value)}:{index}"
    if index < len(labels) and labels[index]:
        text += f":{labels[index]}"
    return text.encode()
