"""Which variants a load allows: left at once, returned to late, mixed by accuracy per capacity."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.core import LatencyPoint, Profile
from setpoint.scheduling import ObjectiveTerms, VariantTerms
from setpoint.scheduling.variant_plan import VariantPlan, best_shares

S = 1_000_000_000
PROFILE = Profile("v", 1, "test", (LatencyPoint(1, 1.0, 1.0, 1.0, 9),), 0, 0.0, 0.0)


def plan(*accuracies: float) -> VariantPlan:
    variants = tuple(VariantTerms(str(accuracy), accuracy, PROFILE) for accuracy in accuracies)
    return VariantPlan(ObjectiveTerms(variants))


def test_a_variant_is_left_at_once_and_returned_to_after_the_load_was_low_for_a_while() -> None:
    here = plan(0.8, 0.79, 0.7)
    seen = []
    loads = ((0.5, 0), (0.95, 1), (0.6, 1.5), (0.8, 1.8), (0.6, 2), (0.6, 2.7), (0.6, 2.9), (0.8, 3), (0.95, 3.1))
    for load, time_s in loads:
        here.judge([load, load / 2, load / 3], False, int(time_s * S))
        seen.append(here.allows(0, empties=False))
    assert seen == [True, False, False, False, False, False, True, True, False]


def test_a_batch_that_empties_the_queue_may_use_any_variant_while_something_cheaper_could_hold_the_load() -> None:
    here = plan(0.8, 0.79, 0.7)
    here.judge([1.5, 0.6, 0.2], False, S)
    assert [here.allows(variant, empties=True) for variant in range(3)] == [True, True, True]
    assert [here.allows(variant, empties=False) for variant in range(3)] == [False, True, True]


def test_a_mixture_is_kept_to_batch_by_batch_and_variants_without_a_share_do_not_run() -> None:
    here = plan(0.80, 0.79, 0.75)
    use = [3.0, 1.18, 0.43]
    here.judge(use, False, S)
    assert not here.allows(0, empties=True)
    served = [0, 0, 0]
    for _ in range(2000):
        variant = next(index for index in (0, 1, 2) if index == 2 or here.allows(index, empties=False))
        here.served(variant, 7)
        served[variant] += 7
    assert served[0] == 0
    assert sum(rows * share for rows, share in zip(served, use, strict=True)) / sum(served) == pytest.approx(
        0.9, abs=0.01
    )


def test_no_mixture_is_made_while_demand_rises() -> None:
    here = plan(0.80, 0.79, 0.75)
    here.judge([3.0, 1.18, 0.43], True, S)
    assert [here.allows(variant, empties=False) for variant in range(3)] == [False, False, True]


@given(
    st.lists(st.tuples(st.floats(0.01, 5), st.floats(0.5, 1)), min_size=1, max_size=5),
)
def test_shares_hold_the_load_and_no_mixture_of_two_is_more_accurate(variants: list[tuple[float, float]]) -> None:
    use = [each[0] for each in variants]
    accuracies = [each[1] for each in variants]
    shares = best_shares(use, accuracies, 0.9)
    assert sum(shares) == pytest.approx(1)
    assert all(share >= 0 for share in shares)
    reached = sum(share * accuracy for share, accuracy in zip(shares, accuracies, strict=True))
    if min(use) > 0.9:
        assert shares[use.index(min(use))] == 1
        return
    assert sum(share * each for share, each in zip(shares, use, strict=True)) <= 0.9 + 1e-9
    for one, other in itertools.product(range(len(use)), repeat=2):
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            if share * use[one] + (1 - share) * use[other] <= 0.9:
                assert share * accuracies[one] + (1 - share) * accuracies[other] <= reached + 1e-9
