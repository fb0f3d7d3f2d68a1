"""How far to go in each layer: one level for each, so that together they save most and answers stay close enough.

One share for all layers is a fair first choice. Where Optuna is installed it looks for better ones from there on
(tree-structured Parzen estimators), within the time there is; its trials are kept beside what else is remembered, so an
interrupted search goes on. Without it a greedy walk moves one layer at a time for as long as that pays.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

_TRIALS_MOST = 60
_SEED = 11


class Tried(msgspec.Struct, frozen=True):
    """A choice and what became of it.

    Attributes:
        levels: for each layer, the index of what was chosen; higher ones save more.
        cost: of running it, as a share of the original's.
        error: of its answers.
    """

    levels: tuple[int, ...]
    cost: float
    error: float


class Question(msgspec.Struct, frozen=True):
    """What is asked.

    Attributes:
        choices: how many levels each layer has.
        first: the choice to begin with; it is good enough.
        try_out: cost and error of a choice.
        error_limit: of what is good enough.
        seconds: it may take.
        storage: file of Optuna's trials; None keeps nothing.
        key: of everything that the trials depend on.
    """

    choices: tuple[int, ...]
    first: tuple[int, ...]
    try_out: Callable[[tuple[int, ...]], tuple[float, float]]
    error_limit: float
    seconds: float
    storage: Path | None = None
    key: str = ""


def has_optuna() -> bool:
    """Whether it is installed."""
    return importlib.util.find_spec("optuna") is not None


def search(question: Question) -> Tried:
    """The cheapest choice found whose error is within the limit; the first one where none is cheaper."""
    found: dict[tuple[int, ...], Tried] = {}

    def tried(levels: Sequence[int]) -> Tried:
        key = tuple(levels)
        if key not in found:
            found[key] = Tried(key, *question.try_out(key))
        return found[key]

    tried(question.first)
    end_s = time.monotonic() + question.seconds
    if has_optuna():
        _by_optuna(question, tried, end_s)
    else:
        _by_greed(question, tried, end_s)
    good = [each for each in found.values() if each.error <= question.error_limit or each.levels == question.first]
    return min(good, key=lambda each: (each.cost, each.error))


def _by_greed(question: Question, tried: Callable[[Sequence[int]], Tried], end_s: float) -> None:
    """Move one layer a level further, the one that saves most for the error it makes; as long as one can be moved."""
    best = tried(question.first)
    for _ in range(_TRIALS_MOST):
        steps = []
        for layer, level in enumerate(best.levels):
            if level + 1 < question.choices[layer]:
                if time.monotonic() > end_s:
                    return
                further = tried([*best.levels[:layer], level + 1, *best.levels[layer + 1 :]])
                if further.error <= question.error_limit and further.cost < best.cost:
                    steps.append(further)
        if not steps:
            return
        now = best
        best = max(steps, key=lambda each: (now.cost - each.cost) / max(each.error - now.error, 1e-9))


def _by_optuna(question: Question, tried: Callable[[Sequence[int]], Tried], end_s: float) -> None:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = None
    if question.storage is not None:
        question.storage.parent.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(JournalFileBackend(str(question.storage)))
    study = optuna.create_study(
        storage=storage,
        study_name=question.key or None,
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=_SEED, n_startup_trials=8, multivariate=True),
    )
    names = [f"layer{index}" for index in range(len(question.choices))]
    if not study.trials:
        study.enqueue_trial(dict(zip(names, question.first, strict=True)))

    def value(trial: optuna.Trial) -> float:
        levels = [trial.suggest_int(name, 0, most - 1) for name, most in zip(names, question.choices, strict=True)]
        one = tried(levels)
        # What is not good enough is worse than everything that is, and the worse the further it is off.
        return one.cost if one.error <= question.error_limit else 1.0 + one.error

    left = _TRIALS_MOST - len(study.trials)
    best = [trial for trial in study.trials if trial.value is not None]
    for trial in sorted(best, key=lambda each: each.value or 0.0)[:1]:  # of an earlier run: only the best counts again
        tried([trial.params[name] for name in names])
    if left > 0 and end_s > time.monotonic():
        study.optimize(value, n_trials=left, timeout=end_s - time.monotonic())
