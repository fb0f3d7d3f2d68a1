"""One level for each layer: never worse than the first choice, within the limit of error and the time there is."""

import importlib.util
from pathlib import Path

import pytest

from setpoint.optimize.makers import levels
from setpoint.optimize.makers.levels import Question, search

COSTS = (1.0, 0.6, 0.3, 0.1)
ERRORS = (0.0, 0.01, 0.03, 0.2)
HARD = 1
"""Of three layers, the one whose error counts four times."""


def try_out(chosen: tuple[int, ...]) -> tuple[float, float]:
    weights = [4 if layer == HARD else 1 for layer in range(len(chosen))]
    error = sum(weight * ERRORS[level] for weight, level in zip(weights, chosen, strict=True))
    return sum(COSTS[level] for level in chosen) / len(chosen), error


def question(**changes: object) -> Question:
    given = {"choices": (4, 4, 4), "first": (1, 1, 1), "try_out": try_out, "error_limit": 0.061, "seconds": 30.0}
    return Question(**{**given, **changes})


@pytest.fixture
def without_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels.importlib.util, "find_spec", lambda name: None)


needs_optuna = pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="Optuna is not installed")


def test_without_optuna_one_layer_at_a_time_goes_further_while_that_pays(without_optuna: None) -> None:
    first = try_out((1, 1, 1))
    best = search(question(first=(0, 0, 0)))
    assert best.error <= 0.061
    assert best.cost < first[0], "the hard layer stays and the others go further"
    assert best.levels[HARD] == 0


def test_the_first_choice_stands_where_nothing_else_is_good_enough(without_optuna: None) -> None:
    assert search(question(first=(3, 3, 3), error_limit=0.0)).levels == (3, 3, 3)


def test_without_time_nothing_else_is_tried(without_optuna: None) -> None:
    asked: list[tuple[int, ...]] = []

    def noted(chosen: tuple[int, ...]) -> tuple[float, float]:
        asked.append(chosen)
        return try_out(chosen)

    assert search(question(try_out=noted, seconds=-1.0)).levels == (1, 1, 1)
    assert asked == [(1, 1, 1)]


@needs_optuna
def test_optuna_finds_what_a_share_for_all_does_not(tmp_path: Path) -> None:
    best = search(question())
    assert best.error <= 0.061
    assert best.cost < try_out((1, 1, 1))[0]


@needs_optuna
def test_an_interrupted_search_goes_on_from_its_trials(tmp_path: Path) -> None:
    storage = tmp_path / "searches" / "key.journal"
    asked: list[tuple[int, ...]] = []

    def dying(chosen: tuple[int, ...]) -> tuple[float, float]:
        asked.append(chosen)
        if len(asked) == 20:
            raise KeyboardInterrupt
        return try_out(chosen)

    with pytest.raises(KeyboardInterrupt):
        search(question(try_out=dying, storage=storage, key="k"))
    before = len(asked)

    def going_on(chosen: tuple[int, ...]) -> tuple[float, float]:
        asked.append(chosen)
        return try_out(chosen)

    best = search(question(try_out=going_on, storage=storage, key="k"))
    assert best.cost < try_out((1, 1, 1))[0]
    assert len(asked) - before <= 60 - 15, "trials of before count"
