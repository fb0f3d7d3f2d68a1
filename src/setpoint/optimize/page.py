"""A study as one HTML page that needs nothing beside it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from setpoint.core import Objective
from setpoint.optimize.picture import draw
from setpoint.optimize.study import Entry, Study
from setpoint.optimize.words import answer, percent, rate
from setpoint.plan import svg

_STYLE = """
body { font: 15px/1.5 system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; color: #1f2933; margin: 2rem auto;
  max-width: 60rem; padding: 0 1rem }
table { border-collapse: collapse; font-size: 13px; margin: 1rem 0; width: 100% }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid #d5dbe1 }
th:first-child, td:first-child { text-align: left }
tr.chosen { background: #e7f5ec } tr.dropped { color: #7b8794 }
svg { max-width: 100%; height: auto }
.note { color: #7b8794 }
"""
_HEADER = ("variant", "workers × threads", "1 row p50", "p99", "best batch", "p99", "rows/s", "held", "memory", "loss")


def page(study: Study, objective: Objective | None) -> str:
    """The document: the answer, the picture, every variant measured, and what was dropped and why."""
    sentences = "".join(f"<p>{escape(sentence)}.</p>" for sentence in answer(study, objective))
    warnings = "".join(f'<p class="note">Note: {escape(warning)}.</p>' for warning in study.warnings)
    rows = "".join(_rows(study))
    left_out = [(entry.variant.name, entry.dropped) for entry in study.entries if entry.dropped]
    left_out += [(skipped.maker, skipped.reason) for skipped in study.skipped]
    dropped = "".join(f"<li><b>{escape(name)}</b>: {escape(reason)}</li>" for name, reason in left_out)
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{escape(study.model)}</title>"
        f"<style>{_STYLE}</style></head><body><h1>{escape(study.model)}</h1>"
        f"<p>{escape(study.objective or 'The highest rate')}; judged by {escape(study.metric)} on"
        f" {escape(study.examples)}.</p>{sentences}{warnings}{svg(draw(study))}"
        f"<table><tr>{''.join(f'<th>{escape(name)}</th>' for name in _HEADER)}</tr>{rows}</table>"
        f"{f'<h2>Left out</h2><ul>{dropped}</ul>' if dropped else ''}"
        f'<p class="note">Measured on {escape(study.hardware)}. Loss: as seen, and its 95 % interval; a variant is'
        f" within the floor only if the upper end is.</p></body></html>\n"
    )


def _rows(study: Study) -> Iterator[str]:
    points = {(point.variant, point.layout): point for point in study.points}
    for entry in study.entries:
        for measured in entry.measured:
            if measured.profile is None:
                continue
            point = points.get((entry.variant.name, measured.candidate.layout))
            first, best = measured.profile.latency[0], measured.profile.best
            kind = "dropped" if entry.dropped else "chosen" if point is not None and point == study.chosen else ""
            yield _row(
                kind,
                (
                    entry.variant.name,
                    measured.candidate.layout,
                    f"{first.p50_ms:.3g} ms",
                    f"{first.p99_ms:.3g} ms",
                    str(best.rows),
                    f"{best.p99_ms:.3g} ms",
                    rate(measured.candidate.workers * best.rows_per_s),
                    "" if point is None else f"{rate(point.rate_per_s)}/s" if point.rows else "no",
                    f"{measured.profile.memory_bytes / (1 << 20):.0f} MiB",
                    _loss(entry),
                ),
            )


def _row(kind: str, cells: Sequence[str]) -> str:
    return f"<tr class='{kind}'>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _loss(entry: Entry) -> str:
    if entry.verdict is None:
        return "original"
    loss = entry.verdict.loss
    return f"{percent(loss.value)} [{100 * loss.low:.2g}, {100 * loss.high:.2g}]"
