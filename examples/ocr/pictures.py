"""Pixels at places between pixels: resizing, and cutting a quadrilateral out of an image. Only numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


def sampled(image: npt.NDArray[np.uint8], x: Array, y: Array) -> Array:
    """Values at places ``x``, ``y`` (pixel centres are whole numbers), bilinear, the edge repeated: float [..., 3]."""
    height, width = image.shape[:2]
    x = np.clip(x, 0, width - 1)
    y = np.clip(y, 0, height - 1)
    left, top = x.astype(np.intp), y.astype(np.intp)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    dx, dy = (x - left)[..., None].astype(np.float32), (y - top)[..., None].astype(np.float32)
    upper = image[top, left] * (1 - dx) + image[top, right] * dx
    lower = image[bottom, left] * (1 - dx) + image[bottom, right] * dx
    return upper * (1 - dy) + lower * dy


def resized(image: npt.NDArray[np.uint8], height: int, width: int) -> Array:
    """float [height, width, 3]. Between pixels only: what is made much smaller is not smoothed first."""
    y = (np.arange(height, dtype=np.float32) + 0.5) * image.shape[0] / height - 0.5
    x = (np.arange(width, dtype=np.float32) + 0.5) * image.shape[1] / width - 0.5
    return sampled(image, *np.broadcast_arrays(x[None, :], y[:, None]))


def cut_out(image: npt.NDArray[np.uint8], quad: Array, height: int, width: int) -> Array:
    """The inside of a quadrilateral as an upright rectangle: float [height, width, 3].

    Args:
        image: uint8 [rows, columns, 3].
        quad: [4, 2], its corners x, y: top left, top right, bottom right, bottom left.
        height, width: of the result.
    """
    forward = perspective(quad)
    u = (np.arange(width) + 0.5)[None, :] / width
    v = (np.arange(height) + 0.5)[:, None] / height
    across, down, depth = (row[0] * u + row[1] * v + row[2] for row in forward)
    return sampled(image, (across / depth).astype(np.float32), (down / depth).astype(np.float32))


def perspective(quad: Array) -> npt.NDArray[np.float64]:
    """The projection [3, 3] that takes the unit square's corners, clockwise from the origin, to those of ``quad``."""
    rows, wanted = [], []
    for (u, v), (x, y) in zip(((0, 0), (1, 0), (1, 1), (0, 1)), quad.tolist(), strict=True):
        rows += [[u, v, 1, 0, 0, 0, -u * x, -v * x], [0, 0, 0, u, v, 1, -u * y, -v * y]]
        wanted += [x, y]
    solved: npt.NDArray[np.float64] = np.append(np.linalg.solve(rows, wanted), 1.0).reshape(3, 3)
    return solved
