"""From the detector's map to boxes: what hangs together, and the smallest rectangle around it. Only numpy.

The method is that of DB, "Real-time Scene Text Detection with Differentiable Binarization" (arXiv:1911.08947), section
3.4: the network learnt to mark the shrunken inside of each line, so that lines do not touch; a box around what hangs
together is grown again by ``area · ratio / perimeter``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
MOST_REGIONS = 1000


def regions(mask: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.intp]]:
    """Sets of marked pixels that touch, corners too: [pixels, 2] of row and column each, largest first."""
    runs, parents = _runs(mask)
    roots = np.array([_root(parents, run) for run in range(len(runs))], np.intp)
    found = []
    for root in np.unique(roots):
        found.append(
            np.concatenate(
                [
                    np.stack([np.full(end - begin, row), np.arange(begin, end)], axis=1)
                    for row, begin, end in runs[roots == root]
                ]
            )
        )
    return sorted(found, key=len, reverse=True)[:MOST_REGIONS]


def _runs(mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.intp], list[int]]:
    """Stretches of marked pixels in a row (row, begin, end), and for each one that it touches in the row above."""
    padded = np.pad(mask, ((0, 0), (1, 1))).astype(np.int8)
    changes = np.diff(padded, axis=1)
    rows, begins = np.nonzero(changes == 1)
    ends = np.nonzero(changes == -1)[1]
    runs = np.stack([rows, begins, ends], axis=1)
    parents = list(range(len(runs)))
    first_of_row = np.searchsorted(rows, np.arange(mask.shape[0] + 1))
    for row in range(1, mask.shape[0]):
        above, here = first_of_row[row - 1], first_of_row[row]
        end_above, end_here = here, first_of_row[row + 1]
        while above < end_above and here < end_here:
            if begins[above] <= ends[here] and begins[here] <= ends[above]:
                parents[_root(parents, here)] = _root(parents, above)
            if ends[above] < ends[here]:
                above += 1
            else:
                here += 1
    return runs, parents


def _root(parents: list[int], run: int) -> int:
    while parents[run] != run:
        parents[run] = parents[parents[run]]
        run = parents[run]
    return run


def hull(points: Floats) -> Floats:
    """The corners of the convex hull, in order around it (Andrew's monotone chain)."""
    ordered = np.unique(points, axis=0)
    if len(ordered) < 3:
        return ordered

    def half(sequence: Floats) -> list[Floats]:
        chain: list[Floats] = []
        for point in sequence:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        return chain[:-1]

    return np.array(half(ordered) + half(ordered[::-1]))


def _turn(a: Floats, b: Floats, c: Floats) -> float:
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))


def smallest_rectangle(points: Floats) -> Floats:
    """The corners [4, 2] of the rectangle of least area around points: one of its sides lies on a side of the hull."""
    corners = hull(points)
    sides = np.diff(np.concatenate([corners, corners[:1]]), axis=0)
    sides = sides[np.hypot(*sides.T) > 0]
    if not len(sides):
        return np.repeat(corners[:1], 4, axis=0)
    along = sides / np.hypot(*sides.T)[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    on_along, on_across = corners @ along.T, corners @ across.T
    areas = np.ptp(on_along, axis=0) * np.ptp(on_across, axis=0)
    best = int(areas.argmin())
    low_a, high_a = on_along[:, best].min(), on_along[:, best].max()
    low_c, high_c = on_across[:, best].min(), on_across[:, best].max()
    return np.array([[low_a, low_c], [high_a, low_c], [high_a, high_c], [low_a, high_c]]) @ np.stack(
        [along[best], across[best]]
    )


def grown(rectangle: Floats, ratio: float) -> Floats:
    """A rectangle whose sides are moved outwards by ``area · ratio / perimeter``."""
    sides = np.hypot(*(rectangle - np.roll(rectangle, -1, axis=0)).T)
    width, height = sides[0], sides[1]
    if min(width, height) == 0:
        return rectangle
    distance = width * height * ratio / (2 * (width + height))
    middle = rectangle.mean(axis=0)
    right, down = (rectangle[1] - rectangle[0]) / width, (rectangle[2] - rectangle[1]) / height
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    half = np.array([width / 2 + distance, height / 2 + distance])
    return middle + (signs * half) @ np.stack([right, down])


def clockwise(corners: Floats) -> Floats:
    """From the top left on, as text is read: the two leftmost are the left side."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    left, right = by_x[:2][np.argsort(by_x[:2, 1])], by_x[2:][np.argsort(by_x[2:, 1])]
    return np.array([left[0], right[0], right[1], left[1]])
