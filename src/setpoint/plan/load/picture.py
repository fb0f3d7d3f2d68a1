"""The result as a picture: latency against time, or, with several rates, against the offered rate. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from setpoint.plan.load.canvas import FAINT, INK, Box, Dot, Line, Page, Point, Shape, Text
from setpoint.plan.load.results import LoadResult
from setpoint.plan.load.verdict import State

WIDTH, HEIGHT = 860, 560
_LEFT, _RIGHT = 70.0, 690.0
_TOP, _MIDDLE, _LOWER, _BOTTOM = 60.0, 330.0, 370.0, 510.0
_BLUE, _ORANGE, _GREEN, _YELLOW, _RED, _VIOLET = "#1f77b4", "#e8710a", "#2b8a3e", "#e0b400", "#c92a2a", "#7048a8"
_PARTS = (("attained", _GREEN), ("late", _YELLOW), ("refused", _VIOLET), ("failed", _RED))
_TICKS = 6
_FEW_DOTS = 60


class Axis(msgspec.Struct, frozen=True):
    """From values to positions on the page."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Position of a value; values outside lie on the edge."""
        value = min(max(value, self.low), self.high)
        if self.logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values to label."""
        if self.logarithmic:
            exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if self.high / self.low < 1e3 else (1,)
            found = [step * 10.0**exponent for exponent in exponents for step in steps]
            return [value for value in found if self.low <= value <= self.high]
        step = round_up((self.high - self.low) / _TICKS)
        return [step * number for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9))


def draw(results: Sequence[LoadResult]) -> Page:
    """One run over time, several over their rates.

    Args:
        results: at least one; several are of the same server and deadline.
    """
    first = results[0]
    title = f"{first.url}   {first.arrivals} arrivals, deadline {first.deadline_ms:g} ms"
    shapes = _over_time(first) if len(results) == 1 else _over_rates(sorted(results, key=lambda run: run.offered_per_s))
    return Page(WIDTH, HEIGHT, title, (Text(_LEFT, 28, title, size=15), *shapes))


def _over_time(run: LoadResult) -> list[Shape]:
    seconds = run.per_second
    across = Axis(0, max(1, len(seconds)), _LEFT, _RIGHT)
    values = [value for second in seconds for value in (second.p50_ms, second.p99_ms) if value]
    up = _latency_axis([*values, run.deadline_ms])
    shapes = _grid(across, up, _TOP, _MIDDLE, "", "latency, ms")
    series: tuple[tuple[str, str, list[tuple[float, float | None]]], ...] = (
        ("p50", _BLUE, [(second.second + 0.5, second.p50_ms) for second in seconds]),
        ("p99", _ORANGE, [(second.second + 0.5, second.p99_ms) for second in seconds]),
    )
    for name, colour, points in series:
        shapes += _curve(across, up, points, colour, dots=len(seconds) <= _FEW_DOTS)
        shapes += _label(name, colour, _TOP + 12 + 18 * (name == "p99"))
    shapes += _deadline(across, up, run)
    most = max([1, *(second.offered for second in seconds)])
    below = Axis(0, most * 1.05, _BOTTOM, _LOWER)
    shapes += _grid(across, below, _LOWER, _BOTTOM, "seconds, by intended send time", "requests/s")
    wide = (_RIGHT - _LEFT) / max(1, len(seconds))
    for second in seconds:
        reached = 0
        for name, colour in _PARTS:
            count = getattr(second, name)
            if count:
                top, bottom = below.at(reached + count), below.at(reached)
                shapes.append(Box(across.at(second.second) + wide * 0.05, top, wide * 0.9, bottom - top, colour))
            reached += count
    for number, (name, colour) in enumerate(_PARTS):
        shapes += _label(f"{name} {_count(run, name):,}", colour, _LOWER + 12 + 18 * number)
    return [*shapes, *_verdict_lines(run)]


def _over_rates(runs: Sequence[LoadResult]) -> list[Shape]:
    first = runs[0]
    across = Axis(0, runs[-1].offered_per_s * 1.05, _LEFT, _RIGHT)
    values = [value for run in runs if run.latency for value in (run.latency.p50_ms, run.latency.p99_ms)]
    up = _latency_axis([*values, first.deadline_ms])
    shapes = _grid(across, up, _TOP, _MIDDLE, "", "latency, ms")
    for name, colour, value in (
        ("p50", _BLUE, lambda run: run.latency and run.latency.p50_ms),
        ("p99", _ORANGE, lambda run: run.latency and run.latency.p99_ms),
    ):
        take: Callable[[LoadResult], float | None] = value
        shapes += _curve(across, up, [(run.offered_per_s, take(run)) for run in runs], colour, dots=True)
        shapes += _label(name, colour, _TOP + 12 + 18 * (name == "p99"))
    shapes += _deadline(across, up, first)
    below = Axis(0, 1.0, _BOTTOM, _LOWER)
    shapes += _grid(across, below, _LOWER, _BOTTOM, "offered, requests/s", "attained", lambda share: f"{share:.0%}")
    target = below.at(first.verdict.target)
    shapes.append(Line(((_LEFT, target), (_RIGHT, target)), INK, 1, dashed=True))
    shapes.append(Line(tuple((across.at(run.offered_per_s), below.at(run.attainment)) for run in runs), _GREEN, 2))
    for run in runs:
        colour = _RED if run.void else _GREEN
        hollow = run.void is not None or run.verdict.state is not State.PROVEN
        shapes.append(Dot(across.at(run.offered_per_s), below.at(run.attainment), colour, hollow))
    shapes += _label(f"proven at {first.verdict.target:.4g}", _GREEN, _LOWER + 12)
    shapes.append(Dot(_RIGHT + 17, _LOWER + 26, _GREEN, hollow=True))
    shapes.append(Text(_RIGHT + 28, _LOWER + 30, "not proven", size=12))
    if any(run.void for run in runs):
        shapes.append(Dot(_RIGHT + 17, _LOWER + 44, _RED, hollow=True))
        shapes.append(Text(_RIGHT + 28, _LOWER + 48, "void", size=12))
    return shapes


def _latency_axis(values: Sequence[float]) -> Axis:
    low, high = min(values), max(values)
    return Axis(low * 0.7, high * 1.4, _MIDDLE, _TOP, logarithmic=True)


def _grid(
    across: Axis,
    up: Axis,
    top: float,
    bottom: float,
    below: str,
    beside: str,
    write: Callable[[float], str] = "{:g}".format,
) -> list[Shape]:
    shapes: list[Shape] = []
    for value in up.ticks():
        y = up.at(value)
        shapes += [Line(((_LEFT, y), (_RIGHT, y)), FAINT), Text(_LEFT - 8, y + 4, write(value), "end", 11)]
    for value in across.ticks():
        x = across.at(value)
        shapes.append(Line(((x, top), (x, bottom)), FAINT))
        if below:
            shapes.append(Text(x, bottom + 16, f"{value:g}", "middle", 11))
    shapes.append(Line(((_LEFT, top), (_LEFT, bottom), (_RIGHT, bottom))))
    shapes.append(Text(_LEFT - 50, top - 10, beside, size=12))
    if below:
        shapes.append(Text((_LEFT + _RIGHT) / 2, bottom + 36, below, "middle", 12))
    return shapes


def _curve(
    across: Axis, up: Axis, points: Sequence[tuple[float, float | None]], colour: str, dots: bool
) -> list[Shape]:
    """Lines through the points that have a value; a gap where there is none."""
    shapes: list[Shape] = []
    run: list[Point] = []
    for x, value in [*points, (0.0, None)]:
        if value is not None:
            run.append((across.at(x), up.at(value)))
            continue
        if len(run) > 1:
            shapes.append(Line(tuple(run), colour, 2))
        if dots or len(run) == 1:
            shapes += [Dot(at, level, colour, radius=2.5) for at, level in run]
        run = []
    return shapes


def _deadline(across: Axis, up: Axis, run: LoadResult) -> list[Shape]:
    y = up.at(run.deadline_ms)
    return [
        Line(((across.start, y), (across.end, y)), INK, 1.2, dashed=True),
        Text(_LEFT + 6, y - 5, f"deadline {run.deadline_ms:g} ms", size=11),
    ]


def _label(text: str, colour: str, y: float) -> list[Shape]:
    return [Box(_RIGHT + 12, y - 9, 10, 10, colour), Text(_RIGHT + 28, y, text, size=12)]


def _count(run: LoadResult, part: str) -> int:
    return sum(run.errors.values()) if part == "failed" else int(getattr(run, part))


def _verdict_lines(run: LoadResult) -> list[Shape]:
    proven = "proven" if run.verdict.state is State.PROVEN else "not proven"
    text = f"{run.attainment:.2%} of {run.offered:,} in time, {proven} at {run.verdict.target:.4g}"
    shapes: list[Shape] = [Text(_RIGHT, 48, text, "end", 12)]
    if run.void:
        shapes.append(Text(_LEFT, 48, "VOID: the generator lagged", colour=_RED, size=12))
    return shapes
