"""The front as a picture: accuracy against what can be held, and latency against throughput. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from setpoint.core import LatencyPoint
from setpoint.optimize.study import Entry, Point, Study
from setpoint.optimize.words import rate
from setpoint.plan import FAINT, INK, Axis, Dot, Line, Page, Shape, Text

WIDTH, HEIGHT = 900, 460
_TOP, _BOTTOM = 70.0, 380.0
_PANELS = ((70.0, 420.0), (520.0, 730.0))
_LEGEND = 745.0
_COLOURS = ("#1f2933", "#1f77b4", "#e8710a", "#2b8a3e", "#c92a2a", "#7048a8", "#0b7285", "#a61e4d", "#5c940d")


def draw(study: Study) -> Page:
    """Two panels: every variant in every layout, the front joined by a line; and run time by rate, by variant."""
    names = [entry.variant.name for entry in study.entries if entry.measured and entry.kept]
    colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(names)}
    title = f"{study.model}   {study.objective or 'highest rate'}"
    shapes = [Text(_PANELS[0][0], 30, title, size=15), *_front(study, colours), *_curves(study, colours)]
    for index, name in enumerate(names):
        height = _TOP + 14 + 20 * index
        shapes += [Dot(_LEGEND, height - 4, colours[name]), Text(_LEGEND + 12, height, name, size=11)]
    return Page(WIDTH, HEIGHT, title, tuple(shapes))


def _front(study: Study, colours: dict[str, str]) -> list[Shape]:
    points = [point for point in study.points if point.rows]
    if not points:
        return [Text(_PANELS[0][0], _TOP + 40, "no variant holds the objective here")]
    lowest = min(*(point.accuracy for point in points), study.floor)
    across = Axis(0.0, 1.1 * max(point.rate_per_s for point in points), *_PANELS[0])
    up = Axis(100 * lowest - 0.1, 100.05, _BOTTOM, _TOP)
    shapes = _grid(across, up, "rows/s held", "% of accuracy left (lower end)")
    floor = up.at(100 * study.floor)
    shapes.append(Line(((across.start, floor), (across.end, floor)), colour="#c92a2a", dashed=True))
    corners = [_at(across, up, point) for point in study.front]
    shapes.append(Line(tuple(corners), colour=INK, width=1.5))
    for point in points:
        x, y = _at(across, up, point)
        shapes.append(Dot(x, y, colours[point.variant], hollow=point not in study.front))
        if point == study.chosen:
            shapes += [Dot(x, y, INK, hollow=True, radius=8), Dot(x, y, colours[point.variant])]
            shapes.append(Text(x, y + 24, _label(point), anchor="middle", size=11))
    return shapes


def _curves(study: Study, colours: dict[str, str]) -> list[Shape]:
    series = [(entry, curve) for entry in study.entries if entry.kept for curve in _by_layout(entry)]
    rates = [each for _, curve in series for each, _ in curve]
    times = [point.p99_ms for _, curve in series for _, point in curve]
    if not rates:
        return []
    across = Axis(0.0, 1.1 * max(rates), *_PANELS[1])
    up = Axis(0.8 * min(times), 1.2 * max(times), _BOTTOM, _TOP, logarithmic=True)
    shapes = _grid(across, up, "rows/s of all workers", "p99 of a batch, ms")
    for entry, curve in series:
        places = [(across.at(each), up.at(point.p99_ms)) for each, point in curve]
        shapes.append(Line(tuple(places), colour=colours[entry.variant.name], width=1.5))
    return shapes


def _by_layout(entry: Entry) -> Iterator[list[tuple[float, LatencyPoint]]]:
    """Rate of all workers and batch time, by batch size, for each layout measured."""
    for measured in entry.measured:
        if measured.profile is not None:
            workers = measured.candidate.workers
            yield [(workers * point.rows_per_s, point) for point in measured.profile.latency]


def _at(across: Axis, up: Axis, point: Point) -> tuple[float, float]:
    return across.at(point.rate_per_s), up.at(100 * point.accuracy)


def _grid(across: Axis, up: Axis, below: str, beside: str) -> list[Shape]:
    shapes: list[Shape] = []
    for value in up.ticks():
        height = up.at(value)
        shapes.append(Line(((across.start, height), (across.end, height)), colour=FAINT))
        shapes.append(Text(across.start - 6, height + 4, f"{value:g}", anchor="end", size=11))
    for value in _few(across.ticks()):
        place = across.at(value)
        shapes.append(Line(((place, _TOP), (place, _BOTTOM)), colour=FAINT))
        shapes.append(Text(place, _BOTTOM + 18, rate(value) if value else "0", anchor="middle", size=11))
    shapes.append(Text((across.start + across.end) / 2, _BOTTOM + 40, below, anchor="middle"))
    shapes.append(Text(across.start - 40, _TOP - 14, beside))
    return shapes


def _label(point: Point) -> str:
    """Without ``×``, which the font of PNG pictures lacks."""
    return f"{point.variant} {point.workers} x {point.threads}"


def _few(values: Sequence[float]) -> Sequence[float]:
    """Every other one where there are many: the labels are wide."""
    return values[::2] if len(values) > 4 else values
