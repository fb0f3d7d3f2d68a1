"""A page to draw on: shapes as data, written as SVG, or as PNG where Pillow is installed. Pure but for Pillow."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from html import escape

import msgspec

from setpoint.core import MissingExtra

Point = tuple[float, float]
INK = "#1f2933"
FAINT = "#d5dbe1"
_PNG_SCALE = 2
_FONT = "system-ui, 'Segoe UI', Helvetica, Arial, sans-serif"


class Line(msgspec.Struct, frozen=True):
    """Straight lines through points."""

    points: tuple[Point, ...]
    colour: str = INK
    width: float = 1.0
    dashed: bool = False


class Box(msgspec.Struct, frozen=True):
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    colour: str


class Dot(msgspec.Struct, frozen=True):
    """A circle; hollow ones are filled white."""

    x: float
    y: float
    colour: str
    hollow: bool = False
    radius: float = 4.0


class Text(msgspec.Struct, frozen=True):
    """A line of text; ``anchor`` is start, middle or end."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    size: float = 12.0
    colour: str = INK


Shape = Line | Box | Dot | Text


class Page(msgspec.Struct, frozen=True):
    """A picture."""

    width: int
    height: int
    title: str
    shapes: tuple[Shape, ...]


def svg(page: Page) -> str:
    """The page as an SVG document that needs nothing beside it."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {page.width} {page.height}"'
        f' width="{page.width}" height="{page.height}" font-family="{_FONT}" role="img">',
        f"<title>{escape(page.title)}</title>",
        f'<rect width="{page.width}" height="{page.height}" fill="white"/>',
        *map(_svg_shape, page.shapes),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _svg_shape(shape: Shape) -> str:
    match shape:
        case Line(points, colour, width, dashed):
            dash = ' stroke-dasharray="6 4"' if dashed else ""
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dash}/>'
        case Box(x, y, width, height, colour):
            return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'
        case Dot(x, y, colour, hollow, radius):
            fill = "white" if hollow else colour
            return (
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{fill}" stroke="{colour}" stroke-width="2"/>'
            )
        case Text(x, y, text, anchor, size, colour):
            at = f'x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{colour}" text-anchor="{anchor}"'
            return f"<text {at}>{escape(text)}</text>"


def png(page: Page) -> bytes:
    """The page as a PNG image of twice its size.

    Raises:
        MissingExtra: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise MissingExtra("Pillow", "images", "a picture as PNG (SVG needs nothing)") from error
    image = Image.new("RGB", (page.width * _PNG_SCALE, page.height * _PNG_SCALE), "white")
    draw = ImageDraw.Draw(image)
    for shape in page.shapes:
        match shape:
            case Line(points, colour, width, dashed):
                for run in _dashes(points) if dashed else [points]:
                    draw.line(_scaled(run), fill=colour, width=max(1, round(width * _PNG_SCALE)))
            case Box(x, y, width, height, colour):
                draw.rectangle(_scaled([(x, y), (x + width, y + height)]), fill=colour)
            case Dot(x, y, colour, hollow, radius):
                box = _scaled([(x - radius, y - radius), (x + radius, y + radius)])
                draw.ellipse(box, fill="white" if hollow else colour, outline=colour, width=2 * _PNG_SCALE)
            case Text(x, y, text, anchor, size, colour):
                side = {"start": "ls", "middle": "ms", "end": "rs"}[anchor]
                font = ImageFont.load_default(size * _PNG_SCALE)
                draw.text(_scaled([(x, y)])[0], text, fill=colour, font=font, anchor=side)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _scaled(points: Sequence[Point]) -> list[Point]:
    return [(x * _PNG_SCALE, y * _PNG_SCALE) for x, y in points]


def _dashes(points: Sequence[Point]) -> list[list[Point]]:
    """Dashes along the lines between points: Pillow has none."""
    pieces = []
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        count = max(1, round(max(abs(x1 - x0), abs(y1 - y0)) / 10))
        for index in range(count):
            ends = (index / count, (index + 0.6) / count)
            pieces.append([(x0 + (x1 - x0) * end, y0 + (y1 - y0) * end) for end in ends])
    return pieces
