"""A study as a page and as a record. Pure but for printing."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from setpoint.cli.table import render
from setpoint.cli.units import format_bytes
from setpoint.core import Objective, Profile
from setpoint.engines import CPU
from setpoint.optimize import Entry, Point, Study, answer, percent, rate


def record(study: Study, objective: Objective | None) -> dict[str, Any]:
    """What ``optimize --json`` prints: the study, and the answer in words."""
    found: dict[str, Any] = msgspec.to_builtins(study)
    return found | {"answer": answer(study, objective)}


def show(study: Study, objective: Objective | None) -> None:
    """Print the page."""
    for warning in study.warnings:
        _line("note", warning)
    click.echo(variants_table(study))
    click.echo()
    for entry in study.entries:
        if entry.dropped:
            _line("dropped", f"{entry.variant.name}: {entry.dropped}")
    for skipped in study.skipped:
        _line("skipped", f"{skipped.maker}: {skipped.reason}")
    if (grid := study.grid) is not None:
        rest = grid.points - grid.measured - grid.predicted
        text = f"{grid.measured} of {grid.points} points measured, {grid.predicted} predicted by the law between them"
        _line("grid", f"{text}, {rest} not needed or not measurable")
    if study.front:
        _line("front", "   ".join(_point_text(point) for point in study.front))
    first, *others = answer(study, objective)
    _line("chosen" if study.chosen else "not held", first)
    for sentence in others:
        _line("", sentence)


def serving(name: str, study: Study, objective: Objective | None, device: str) -> str:
    """The command that serves what was chosen, as it was found and on the device that it was found on."""
    command = f"setpoint serve {name}"
    if objective is not None:
        command += f' --objective "{objective}"'
        if study.accepted:
            command += " --accept-made-up"  # or it would be found anew, without
    elif study.chosen is not None:
        # Without an objective the most accurate variant answers, in no layout that was measured.
        chosen = study.chosen
        command += f" --variant {chosen.variant} --workers {chosen.workers} --threads {chosen.threads}"
    return command if device == CPU else f"{command} --device {device}"


def variants_table(study: Study) -> str:
    """Every variant in every layout it was measured in."""
    rows = []
    points = {(point.variant, point.layout): point for point in study.points}
    for entry in study.entries:
        for measured in entry.measured:
            if measured.profile is None:
                continue
            layout = measured.candidate.layout
            point = points.get((entry.variant.name, layout))
            rows.append(
                (
                    entry.variant.name,
                    layout,
                    *_times(measured.profile),
                    rate(measured.candidate.workers * measured.profile.best.rows_per_s),
                    f"{measured.speedup:.2f}×",
                    _held(point),
                    format_bytes(measured.profile.memory_bytes),
                    loss_text(entry),
                    _mark(study, entry, point),
                )
            )
    header = (
        *("VARIANT", "W×T", "1 ROW p50", "p99", "BEST", "p50", "ROWS/S", "FASTER"),
        *("HELD", "MEMORY", "LOSS (95 %)", ""),
    )
    right = ("1 ROW p50", "p99", "BEST", "p50", "ROWS/S", "FASTER", "HELD", "MEMORY")
    return render(header, rows, right=right)


def _times(profile: Profile) -> tuple[str, str, str, str]:
    first, best = profile.latency[0], profile.best
    return f"{first.p50_ms:.3g} ms", f"{first.p99_ms:.3g} ms", f"b{best.rows}", f"{best.p50_ms:.3g} ms"


def _held(point: Point | None) -> str:
    return "" if point is None else f"{rate(point.rate_per_s)}/s" if point.rows else "no"


def _mark(study: Study, entry: Entry, point: Point | None) -> str:
    if entry.dropped:
        return "dropped"
    if point is not None and point == study.chosen:
        return "chosen"
    return "front" if point in study.front else ""


def loss_text(entry: Entry) -> str:
    """``0.2 % [-0.1, 0.6]`` of the metric."""
    if entry.verdict is None:
        return "original"
    loss = entry.verdict.loss
    return f"{percent(loss.value)} [{100 * loss.low:.2g}, {100 * loss.high:.2g}] {entry.verdict.metric}"


def _point_text(point: Point) -> str:
    return f"{point.variant} {point.layout} {rate(point.rate_per_s)}/s, {percent(point.accuracy)} left"


def _line(label: str, text: str) -> None:
    click.echo(f"{click.style(f'{label:<9}', bold=True)}  {text}")
