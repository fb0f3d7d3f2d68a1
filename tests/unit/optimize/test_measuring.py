"""What is measured next, and when it is enough."""

from hypothesis import given
from hypothesis import strategies as st

from setpoint.core import LatencyPoint, Profile
from setpoint.optimize.measuring import (
    SIZES,
    Cell,
    Rules,
    Samples,
    enough,
    next_size,
    paired_latency_gain,
    paired_speedup,
    percentile,
    round_order,
    with_predicted,
    worth_measuring,
    worth_sizes,
)

RULES = Rules(rounds_least=3, rounds_most=10, tolerance=0.02, slow_ms=1000.0)


def sizes_tried(run_ms, most_rows: int = 64, rules: Rules = RULES) -> list[int]:
    """The sizes tried on a machine where ``run_ms(rows)`` is what a batch takes."""
    rates: dict[int, float] = {}
    last_ms = 0.0
    while (size := next_size(rates, last_ms, most_rows, rules)) is not None:
        last_ms = run_ms(size)
        rates[size] = size / last_ms
    return list(rates)


def test_sizes_grow_while_they_pay() -> None:
    assert sizes_tried(lambda rows: 1.0 + 0.01 * rows) == list(SIZES)
    assert sizes_tried(lambda rows: 10.0 * rows) == [1, 2, 4], "two that do not pay, and no more"
    assert sizes_tried(lambda rows: 1.0, most_rows=16) == [1, 2, 4, 8, 16]
    assert sizes_tried(lambda rows: 1.0, most_rows=1) == [1]


def test_one_bad_size_does_not_end_the_search() -> None:
    bumpy = {1: 1.0, 2: 2.5, 4: 2.6, 8: 3.0, 16: 5.0, 32: 9.0, 64: 17.0}
    assert sizes_tried(lambda rows: bumpy[rows]) == list(SIZES)


def test_batches_too_slow_to_be_of_use_are_not_tried() -> None:
    assert sizes_tried(lambda rows: 300.0 + 100.0 * rows) == [1, 2, 4]
    assert sizes_tried(lambda rows: 5000.0) == [1], "a single row always"


def test_a_tail_that_falls_off_is_not_measured() -> None:
    assert worth_sizes({1: 10.0, 2: 20.0, 4: 30.0, 8: 26.0, 16: 15.0}) == (1, 2, 4)
    assert worth_sizes({1: 10.0}) == (1,)


@given(st.lists(st.floats(0.001, 1e4), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_a_percentile_has_its_share_at_or_below_it(values: list[float], share: float) -> None:
    ascending = sorted(values)
    found = percentile(ascending, share)
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values) + 1e-9


def test_rounds_visit_every_cell_once_and_keep_equal_sizes_together() -> None:
    cells = [Cell(candidate, rows) for candidate in range(3) for rows in (1, 2)]
    first, second = round_order(cells, 0), round_order(cells, 1)
    assert sorted(map(str, first)) == sorted(map(str, second)) == sorted(map(str, cells))
    assert [cell.rows for cell in first] == [1, 1, 1, 2, 2, 2]
    assert [cell.candidate for cell in first[:3]] != [cell.candidate for cell in second[:3]], (
        "not always the same first"
    )


def steady(*medians: float) -> Samples:
    samples = Samples()
    for median in medians:
        samples.add(Cell(0, 1), [median] * 3)
    return samples


def test_it_is_enough_when_medians_agree_and_never_before_the_least_rounds() -> None:
    cells = [Cell(0, 1)]
    assert not enough(steady(1.0, 1.0), cells, 2, RULES)
    assert enough(steady(1.0, 1.0, 1.01), cells, 3, RULES)
    assert not enough(steady(1.0, 2.0, 1.5), cells, 3, RULES)
    assert enough(steady(*[1.0, 2.0] * 5), cells, 10, RULES), "or when there were the most rounds"


def test_a_neighbour_that_takes_a_core_for_one_visit_moves_neither_median_nor_spread() -> None:
    samples = steady(1.0, 1.01, 0.99, 5.0, 1.0)
    assert samples.median_ms(Cell(0, 1)) == 1.0
    assert samples.spread(Cell(0, 1)) < 0.02


def test_drift_cancels_in_what_is_compared_within_a_round() -> None:
    samples = Samples()
    for slowness in (1.0, 1.0, 3.0, 3.0, 3.0):  # the machine became three times slower meanwhile
        for index, base_ms in ((0, 10.0), (1, 5.0)):
            for rows in (1, 4):
                samples.add(Cell(index, rows), [slowness * base_ms * rows**0.5] * 4)
    assert paired_speedup(samples, 1, 0) == 2.0
    assert paired_latency_gain(samples, 1, 0) == 2.0


def test_where_the_affine_law_holds_its_ends_and_the_best_are_measured() -> None:
    lawful = {rows: 2.0 + 0.5 * rows for rows in (1, 2, 4, 8, 16, 32, 64)}
    assert worth_measuring(lawful) == (1, 64)
    assert worth_measuring({1: 3.0}) == (1,)
    assert worth_measuring({rows: 0.5 * rows for rows in (1, 2, 4)} | {8: 6.0})[0] == 1


def test_what_is_off_the_law_is_measured() -> None:
    kinked = {1: 1.0, 2: 1.1, 4: 1.3, 8: 4.0, 16: 8.0, 32: 16.0}
    kept = worth_measuring(kinked)
    assert {1, 4, 8, 32} <= set(kept), "it takes another law from 8 rows on"
    assert 16 not in kept


def test_what_was_not_measured_is_predicted_and_says_so() -> None:
    measured = [LatencyPoint(1, 2.0, 3.0, 4.0, 50), LatencyPoint(5, 6.0, 11.0, 20.0, 40)]
    points = with_predicted(measured, [1, 2, 5])
    assert points == (measured[0], LatencyPoint(2, 3.0, 5.0, 8.0, 0), measured[1])


def test_a_point_states_all_runs() -> None:
    samples = Samples()
    samples.add(Cell(0, 8), [1.0, 2.0, 3.0])
    samples.add(Cell(0, 8), [4.0, 5.0])
    point = samples.point(Cell(0, 8))
    assert (point.rows, point.p50_ms, point.p95_ms, point.p99_ms, point.samples) == (8, 3.0, 5.0, 5.0, 5)
    assert Profile("fp32", 1, "here", (point,), 0, 0.0, 0.0).best is point
