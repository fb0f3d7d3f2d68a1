"""What each variant's answers are worth beside the original's, and which are dropped for it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import numpy as np

from setpoint.core import Objective, SetpointError
from setpoint.optimize import front
from setpoint.optimize.answers import Answers, same_answers
from setpoint.optimize.feed import Examples
from setpoint.optimize.metrics import Judge, UserMetric
from setpoint.optimize.study import Entry

Ask = Callable[[Entry, Examples, float], Awaitable[Answers]]
"""A variant's answers to examples; about no more rows after so many seconds than there must be."""


class Court(msgspec.Struct, frozen=True):
    """By what variants are judged.

    Attributes:
        ask: for answers.
        objective: whose floor counts.
        metric: of ``metrics.METRICS``; empty chooses.
        user_metric: in its place.
        accept_made_up: agreement on made-up rows counts as accuracy.
        late: whether no further variant is to be judged.
        warn: told what a reader must know.
    """

    ask: Ask
    objective: Objective | None
    metric: str
    user_metric: UserMetric | None
    accept_made_up: bool
    late: Callable[[], bool]
    warn: Callable[[str], None]


async def judge_all(
    court: Court, entries: Sequence[Entry], examples: Examples, original_limit_s: float
) -> tuple[list[Entry], str]:
    """Compare answers; what loses too much, fails or is seen to be slow is dropped.

    Args:
        court: by what.
        entries: the original first.
        examples: to ask about.
        original_limit_s: for the original's answers; the others are asked about as many rows.

    Returns:
        the entries, the original first and then the fastest, and the metric.
    """
    original = await court.ask(entries[0], examples, original_limit_s)
    if original.rows < examples.rows:
        court.warn(f"{original.rows} of {examples.rows} rows were judged in the time there was")
        examples = examples.take(np.arange(original.rows))
    judge = Judge(court.metric, original.outputs, examples.labels, court.user_metric)
    judged: list[tuple[float, Entry]] = []
    for entry in entries[1:]:
        if court.late():
            judged.append((0.0, msgspec.structs.replace(entry, dropped="the budget was spent before it was judged")))
            continue
        try:
            answers = await court.ask(entry, examples, math.inf)
        except SetpointError as error:
            judged.append((0.0, msgspec.structs.replace(entry, dropped=f"does not run: {error.message}")))
            continue
        judged.append((answers.run_ms, _judged(court, judge, entry, original, answers, real=examples.real)))
    judged.sort(key=lambda pair: pair[0])
    return [entries[0], *(entry for _, entry in judged)], judge.metric


def _judged(court: Court, judge: Judge, entry: Entry, original: Answers, answers: Answers, *, real: bool) -> Entry:
    verdict = judge.judge(answers.outputs)
    accuracy, promised = verdict.loss.left, real or court.accept_made_up
    if not promised and entry.same and same_answers(original.outputs, answers.outputs):
        # What holds for a conversion that is packed holds here: the same arithmetic with the same answers.
        accuracy, promised = 1.0, True
    variant = msgspec.structs.replace(entry.variant, accuracy=accuracy)
    found = msgspec.structs.replace(entry, variant=variant, verdict=verdict, promised=promised)
    dropped = (
        front.why_drop_for_accuracy(found, front.floor_of(court.objective))
        or front.why_not_measure(answers.run_ms, original.run_ms)
        or front.why_drop_without_promise(found, court.objective)
    )
    return msgspec.structs.replace(found, dropped=dropped)
