"""Sizes and durations as people write and read them: ``64MiB``, ``500ms``."""

from __future__ import annotations

import re
from typing import Any

import click

BYTES_BY_UNIT = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
}
SECONDS_BY_UNIT = {"us": 1e-6, "ms": 1e-3, "": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_NUMBER_AND_UNIT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")


class ByteSize(click.ParamType[int]):
    """A size such as ``64MiB``, ``100MB`` or ``65536``; given to the command as an int of bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it, or fail as misuse."""
        if isinstance(value, int):
            return value
        size_bytes = parse_number(value, BYTES_BY_UNIT)
        if size_bytes is None or size_bytes < 1:
            self.fail(f"{value!r} is not a size above 0; expected such as 64MiB, 100MB or 65536", param, ctx)
        return round(size_bytes)


class Duration(click.ParamType[float]):
    """A time such as ``500ms``, ``30s`` or ``2m``, or bare seconds; given to the command as a float of seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it, or fail as misuse."""
        if isinstance(value, int | float):
            return float(value)
        seconds = parse_number(value, SECONDS_BY_UNIT)
        if seconds is None or seconds <= 0:
            self.fail(f"{value!r} is not a time above 0; expected such as 500ms, 30s or 2m", param, ctx)
        return seconds


def parse_number(text: str, factors: dict[str, int] | dict[str, float]) -> float | None:
    """``NUMBER UNIT`` in base units; None where it is not understood."""
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if match is None or (factor := factors.get(match[2].lower())) is None:
        return None
    return float(match[1]) * factor


def format_bytes(size_bytes: int) -> str:
    """Three digits at most before the unit: ``731 B``, ``2.3 MiB``, ``88 MiB``."""
    size: float = size_bytes
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1000 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.1f} {unit}" if size < 10 and unit != "B" else f"{size:.0f} {unit}"


def format_seconds(seconds: float) -> str:
    """The shortest of ``500ms``, ``30s``, ``2m`` that ``Duration`` reads back."""
    if seconds < 1:
        return f"{seconds * 1e3:g}ms"
    return f"{seconds / 60:g}m" if seconds % 60 == 0 else f"{seconds:g}s"
