"""Paired losses: intervals that are kept as often as they say, also where nothing or little was seen to change."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.optimize.paired import loss_of_right_and_wrong, loss_of_scores, loss_of_set, tango_interval


@pytest.mark.parametrize(("lost", "won", "rows"), [(12, 2, 50), (1, 0, 44), (5, 9, 719), (40, 3, 60)])
def test_at_its_ends_the_score_statistic_is_what_a_95_percent_interval_asks_for(lost: int, won: int, rows: int) -> None:
    """The statistic from its definition, the nuisance share found by trying: no formula is shared with the code."""
    for delta, sign in zip(tango_interval(lost, won, rows), (1.0, -1.0), strict=True):
        shares = np.linspace(max(0.0, -delta) + 1e-12, (1.0 - delta) / 2 - 1e-12, 2_000_001)
        with np.errstate(divide="ignore"):
            likelihood = lost * np.log(shares + delta) + (rows - lost - won) * np.log(1.0 - 2.0 * shares - delta)
            likelihood += won * np.log(shares) if won else 0.0
        share = shares[np.nanargmax(likelihood)]
        deviation = np.sqrt(rows * (2.0 * share + delta - delta**2))
        assert (lost - won - rows * delta) / deviation == pytest.approx(sign * 1.96, abs=2e-3)


def test_nothing_in_so_many_rows_allows_what_the_rule_of_three_says_about() -> None:
    assert tango_interval(0, 0, 1000)[1] == pytest.approx(1.96**2 / (1000 + 1.96**2), rel=1e-3)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 400))
def test_the_interval_holds_what_was_seen_and_turns_with_the_question(lost: int, won: int, same: int) -> None:
    rows = lost + won + same
    if rows == 0:
        return
    low, high = tango_interval(lost, won, rows)
    assert -1.0 <= low <= (lost - won) / rows <= high <= 1.0
    other_low, other_high = tango_interval(won, lost, rows)
    assert (other_low, other_high) == pytest.approx((-high, -low), abs=1e-6)


def test_nothing_seen_on_few_rows_is_no_proof_of_nothing_lost() -> None:
    right = np.ones(100, np.bool_)
    few, many = loss_of_right_and_wrong(right, right), loss_of_right_and_wrong(*[np.ones(10_000, np.bool_)] * 2)
    assert few.value == many.value == 0.0
    assert few.high > 0.03 > 0.001 > many.high > 0.0
    assert few.left == pytest.approx(1.0 - few.high)


@pytest.mark.parametrize("true_loss", [0.0, 0.01, 0.05])
def test_the_upper_end_is_exceeded_about_as_rarely_as_it_promises(true_loss: float) -> None:
    random, exceeded, tries = np.random.default_rng(3), 0, 400
    for _ in range(tries):
        draw = random.random(500)
        before, after = draw >= 0.01, (draw < 0.01) | (draw >= 0.02 + true_loss)  # 1 % won, 1 % and the loss lost
        exceeded += loss_of_right_and_wrong(before, after).high < true_loss
    assert exceeded / tries < 0.05


def test_scores_are_compared_row_by_row() -> None:
    random = np.random.default_rng(0)
    before = random.random(1000)  # widely spread, but every row loses about the same
    loss = loss_of_scores(before, before - 0.01 - 0.001 * random.random(1000))
    assert 0.0100 < loss.low < loss.value < loss.high < 0.0110


def test_more_is_better_has_a_negative_loss_and_all_is_left() -> None:
    before = np.zeros(100)
    loss = loss_of_scores(before, before + 0.1)
    assert loss.value == pytest.approx(-0.1)
    assert loss.left == 1.0


def test_figures_of_all_rows_allow_for_what_was_not_seen() -> None:
    answers = np.arange(300) % 3

    def value(given: np.ndarray, which: np.ndarray) -> float:
        return float((given[which] == answers[which]).mean())

    loss = loss_of_set(value, answers, answers, 300, 0, lambda one, other: one - other)
    assert loss.value == 0.0
    assert loss.high == pytest.approx(tango_interval(0, 0, 300)[1])
