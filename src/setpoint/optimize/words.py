"""The answer in words: what was chosen and why, and what would be attainable where the objective is not. Pure."""

from __future__ import annotations

import math

from setpoint.core import Objective
from setpoint.optimize.front import latency_of
from setpoint.optimize.study import Entry, Point, Study


def answer(study: Study, objective: Objective | None) -> list[str]:
    """A few sentences."""
    sentences = [_chosen(study, objective) if study.chosen else _impossible(study, objective)]
    if study.chosen:
        sentences += _slower_and_better(study, study.chosen)
        sentences += _missed_rate(study, study.chosen, objective)
    return sentences + _without_promise(study, study.chosen.rate_per_s if study.chosen else 0.0)


def _chosen(study: Study, objective: Objective | None) -> str:
    point = study.chosen
    assert point is not None
    goal = objective.latency if objective else None
    bound = f" at p{goal.percentile:g} <= {goal.bound:g}{goal.unit}" if goal else ""
    text = f"{point.variant} on {_layout(point)}: about {rate(point.rate_per_s)} rows/s{bound}, batches of {point.rows}"
    gain = _gain_over_original(study, point)
    if gain:
        text += f"; {gain}"
    entry = _entry(study, point.variant)
    if entry.verdict is not None:
        loss = entry.verdict.loss
        lost = f"loses {percent(loss.value)}" if loss.value > 0 else "loses nothing"
        text += (
            f". It {lost} of {entry.verdict.metric} on {loss.rows} rows, at most {percent(max(loss.high, 0.0))}"
            " with 97.5 % confidence"
            if study.promised or study.accepted
            else f". It is the original's own arithmetic, with the same answers on {study.examples}"
            if entry.promised
            else f". Its accuracy is not known: it was compared on {study.examples} only"
        )
    return text


def _gain_over_original(study: Study, point: Point) -> str:
    original = study.entries[0].variant.name
    same = [each for each in study.points if each.variant == original and each.rows]
    if point.variant == original:
        return "the original is the fastest that is accurate enough"
    if not same:
        return f"{original} cannot hold it at all"
    best = max(same, key=lambda each: each.rate_per_s)
    times = point.rate_per_s / best.rate_per_s
    return f"{original} holds {rate(best.rate_per_s)} at best ({best.layout}), {times:.1f}× less"


def _slower_and_better(study: Study, point: Point) -> list[str]:
    better = [
        each
        for each in study.points
        if each.layout == point.layout and each.rows and each.accuracy > point.accuracy and each is not point
    ]
    if not better:
        return []
    best = max(better, key=lambda each: (each.accuracy, each.rate_per_s))
    return [f"{best.variant} answers while the load stays below {rate(best.rate_per_s)} rows/s"]


def _missed_rate(study: Study, point: Point, objective: Objective | None) -> list[str]:
    goal = objective.rate if objective else None
    if goal is None or point.rate_per_s >= goal.bound:
        return []
    workers = math.ceil(goal.bound / (point.rate_per_s / point.workers) - 1e-9)
    sentences = [
        f"{goal.bound:g} rows/s cannot be held here: {rate(point.rate_per_s)} can;"
        f" {workers * point.threads} such cores would hold it"
    ]
    faster = _faster_but_worse(study, point.rate_per_s)
    return sentences + faster


def _faster_but_worse(study: Study, rate_per_s: float) -> list[str]:
    """Variants that were left out for their accuracy alone, where they were measured."""
    found = []
    for entry in study.entries:
        if entry.dropped and entry.promised and entry.verdict is not None and _most_rows_per_s(entry) > rate_per_s:
            found.append(f"or a drop of {percent(entry.verdict.loss.high)} is allowed: {entry.variant.name}")
    return found


def _without_promise(study: Study, rate_per_s: float) -> list[str]:
    """What data would buy: the fastest variant that may not serve, since it was judged on made-up rows alone."""
    rates = [(_most_rows_per_s(entry), entry.variant.name) for entry in study.entries if not entry.promised]
    best, name = max(rates, default=(0.0, ""))
    if best <= rate_per_s:
        return []
    return [f"{name} runs {rate(best)} rows/s, but nothing is known of its accuracy without data: --data FILE"]


def _most_rows_per_s(entry: Entry) -> float:
    """At its best batch in its best layout; 0 where it was not measured."""
    return max((m.profile.best.rows_per_s * m.candidate.workers for m in entry.measured if m.profile), default=0.0)


def _impossible(study: Study, objective: Objective | None) -> str:
    goal = objective.latency if objective else None
    fastest: tuple[float, Point] | None = None
    for entry in study.entries:
        for measured in entry.measured:
            if measured.profile is None or not entry.kept:
                continue
            point = measured.profile.latency[0]
            latency_ms = latency_of(point, measured.candidate.workers, goal.percentile if goal else 99.0)
            if fastest is None or latency_ms < fastest[0]:
                candidate = measured.candidate
                fastest = (
                    latency_ms,
                    Point(entry.variant.name, candidate.workers, candidate.threads, 1, 0.0, latency_ms, 1.0),
                )
    if fastest is None:
        return "nothing could be measured"
    latency_ms, best = fastest
    stated = f"p{goal.percentile:g} <= {goal.bound:g}{goal.unit}" if goal else "it"
    return (
        f"{stated} cannot be held here: under load a single row takes {latency_ms:.3g} ms at best"
        f" ({best.variant} on {_layout(best)}), waiting for the one before it included"
    )


def _layout(point: Point) -> str:
    workers = f"{point.workers} worker{'s' if point.workers > 1 else ''}"
    return f"{workers} × {point.threads} thread{'s' if point.threads > 1 else ''}"


def _entry(study: Study, name: str) -> Entry:
    return next(entry for entry in study.entries if entry.variant.name == name)


def rate(per_s: float) -> str:
    """A rate with three digits: ``1,230``, ``87``, ``0.4``."""
    return f"{float(f'{per_s:.3g}'):,.0f}" if per_s >= 100 else f"{per_s:.3g}"


def percent(share: float) -> str:
    """A share with two digits, or one behind the point: ``0.32 %``, ``99.6 %``."""
    return f"{100 * share:.2g} %" if abs(share) < 0.1 else f"{100 * share:.1f} %"
