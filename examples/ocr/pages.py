"""Pages of rendered text: what is written on them is known, so what is read can be judged."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

SENTENCES = (
    "The controller is told a value to hold.",
    "Requests that would be late are refused at once.",
    "Batches form because workers are busy.",
    "Invoice 2026-1187, total 1,249.50 EUR",
    "Every answer says which variant it was.",
    "Please return this form before 31 May.",
    "A worker may crash without touching others.",
    "Detection finds the lines on this page.",
    "Recognition reads every one of them.",
    "Quality bends before availability breaks.",
    "Room 204, second floor, turn left",
    "Nothing is believed that was not measured.",
)
SIDE, MARGIN = 900, 40
FONTS = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf")


@dataclasses.dataclass
class Page:
    """uint8 [height, width, 3], RGB, and the lines on it as its writer sees them, from top to bottom."""

    pixels: npt.NDArray[np.uint8]
    lines: list[str]
    turned: bool = False

    def accuracy(self, read: list[str]) -> float:
        """Of pieces of lines from the image's top left on: a turned page comes from its end to its beginning."""
        return accuracy(self.lines, read[::-1] if self.turned else read)


def fonts(size: int) -> list[ImageFont.FreeTypeFont | ImageFont.ImageFont]:
    """DejaVu where matplotlib brings it, else Pillow's own."""
    try:
        import matplotlib

        folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        return [ImageFont.truetype(str(folder / name), size) for name in FONTS]
    except ImportError:
        return [ImageFont.load_default(size)]


def page(seed: int, *, turned: bool = False) -> Page:
    """A page of a few sentences; ``turned`` puts it upside down."""
    random_ = random.Random(seed)
    lines = random_.sample(SENTENCES, random_.randint(3, 6))
    size = random_.choice((26, 28))
    paper = random_.choice(("white", "#f4efe2", "#e3ecf4"))
    picture = Image.new("RGB", (SIDE, SIDE), paper)
    draw = ImageDraw.Draw(picture)
    for place, line in enumerate(lines):
        font = random_.choice(fonts(size))
        draw.text((MARGIN, MARGIN + 2 * size * place), line, font=font, fill=random_.choice(("black", "#202a60")))
    if turned:
        picture = picture.rotate(180)
    return Page(np.asarray(picture), lines, turned)


def accuracy(wanted: list[str], got: list[str]) -> float:
    """1 less the edits that make what was read what was written, by character of the latter; blanks do not count."""
    written, read = ("".join("".join(lines).split()) for lines in (wanted, got))
    return max(0.0, 1.0 - edits(written, read) / max(1, len(written)))


def edits(left: str, right: str) -> int:
    """Insertions, removals and changes that turn one text into the other (Levenshtein)."""
    row = list(range(len(right) + 1))
    for place, one in enumerate(left, start=1):
        before, row[0] = row[0], place
        for column, other in enumerate(right, start=1):
            before, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, before + (one != other))
    return row[-1]
