"""Between detection and recognition: boxes around lines of text, and the lines cut out of the image.

One image goes in and as many rows come out as there are lines; from here on the lines of all requests are batched
together.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from pictures import cut_out
from regions import clockwise, grown, regions, smallest_rectangle

import setpoint as sp

MARKED, LEAST_SCORE, GROWTH = 0.3, 0.5, 1.6
LEAST_SIDE = 3
HEIGHT = 48
THUMBNAIL_WIDTH = 192
LEAST_WIDTH, WIDTH_STEP, MOST_WIDTH = 320, 160, 3200


@dataclasses.dataclass
class Lines:
    """What is known of the lines of one image; one row for each.

    Attributes:
        lines: values -1 to 1, as wide as the widest line of the image; 0 behind a shorter one's end.
        widths: of each, without what is behind its end.
        thumbnails: the beginnings, of one size, which is enough to tell whether a line is upside down.
        quads: corners x, y in the image, clockwise from the top left.
    """

    lines: sp.Tensor[np.float32, None, 3, HEIGHT, None]
    widths: sp.Tensor[np.int64, None]
    thumbnails: sp.Tensor[np.float32, None, 3, HEIGHT, THUMBNAIL_WIDTH]
    quads: sp.Tensor[np.float32, None, 4, 2]


class Cut(sp.Model):
    """Finds lines in the detector's map and cuts them out."""

    @sp.endpoint
    def cut(self, image: sp.Tensor[np.uint8, None, None, 3], map: sp.Tensor[np.float32, 1, 1, None, None]) -> Lines:
        """An image and its map → its lines of text."""
        quads = boxes(map[0, 0], *image.shape[:2])
        pieces = [line_of(image, quad) for quad in quads]
        widest = max((piece.shape[2] for piece in pieces), default=0)
        # In steps, so that lines of different images are often of one width, and share a batch.
        width = max(LEAST_WIDTH, -(-widest // WIDTH_STEP) * WIDTH_STEP)
        lines = np.zeros((len(pieces), 3, HEIGHT, width), np.float32)
        for row, piece in enumerate(pieces):
            lines[row, :, :, : piece.shape[2]] = piece
        thumbnails = np.zeros((len(pieces), 3, HEIGHT, THUMBNAIL_WIDTH), np.float32)
        for row, quad in enumerate(quads):
            piece = line_of(image, quad, THUMBNAIL_WIDTH)
            thumbnails[row, :, :, : piece.shape[2]] = piece
        widths = np.array([piece.shape[2] for piece in pieces], np.int64)
        return Lines(lines, widths, thumbnails, np.array(quads, np.float32).reshape(-1, 4, 2))


def boxes(heat: npt.NDArray[np.float32], height: int, width: int) -> list[npt.NDArray[np.float64]]:
    """Quadrilaterals around lines, in the image's pixels, in reading order."""
    mask = heat > MARKED
    mask[1:] |= mask[:-1].copy()  # grown by a pixel, as the network was tuned with
    mask[:, 1:] |= mask[:, :-1].copy()
    found = []
    for pixels in regions(mask):
        rectangle = smallest_rectangle(pixels[:, ::-1].astype(float))
        sides = np.hypot(*(rectangle - np.roll(rectangle, -1, axis=0)).T)
        if min(sides[:2]) < LEAST_SIDE or heat[pixels[:, 0], pixels[:, 1]].mean() < LEAST_SCORE:
            continue
        quad = clockwise(grown(rectangle, GROWTH)) * (width / heat.shape[1], height / heat.shape[0])
        quad = np.clip(np.round(quad), 0, (width - 1, height - 1))
        if np.hypot(*(quad[1] - quad[0])) > LEAST_SIDE and np.hypot(*(quad[3] - quad[0])) > LEAST_SIDE:
            found.append(quad)
    return in_reading_order(found)


def in_reading_order(quads: list[npt.NDArray[np.float64]]) -> list[npt.NDArray[np.float64]]:
    """From top to bottom; those whose middles are at about the same height, from left to right."""
    left = sorted(quads, key=lambda quad: float(quad[:, 1].mean()))
    ordered: list[npt.NDArray[np.float64]] = []
    while left:
        middle, height = left[0][:, 1].mean(), np.ptp(left[0][:, 1])
        same = [quad for quad in left if quad[:, 1].mean() - middle < height / 2]
        ordered += sorted(same, key=lambda quad: float(quad[:, 0].min()))
        left = left[len(same) :]
    return ordered


def line_of(
    image: npt.NDArray[np.uint8], quad: npt.NDArray[np.float64], most_width: int = MOST_WIDTH
) -> npt.NDArray[np.float32]:
    """A line cut out and sized: float [3, 48, width], values -1 to 1. One that stands upright is laid down."""
    width = max(np.hypot(*(quad[1] - quad[0])), np.hypot(*(quad[2] - quad[3])))
    height = max(np.hypot(*(quad[3] - quad[0])), np.hypot(*(quad[2] - quad[1])))
    if height >= 1.5 * width:
        quad, width, height = np.roll(quad, -1, axis=0), height, width
    columns = min(most_width, max(1, int(np.ceil(HEIGHT * width / height))))
    piece = cut_out(image, quad.astype(np.float32), HEIGHT, columns) / 127.5 - 1
    return np.ascontiguousarray(piece[..., ::-1].transpose(2, 0, 1), np.float32)
