"""Pictures are well-formed, hold what they should, and stay on their page whatever was measured."""

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from setpoint.plan.load.canvas import Dot, Line, Page, Text, png, svg
from setpoint.plan.load.picture import Axis, draw, round_up
from setpoint.plan.load.results import Generator, LoadResult, Tally

MS = 1_000_000


def result_of(rate: float, latencies_ms: list[float], failed: int = 0, void: str | None = None) -> LoadResult:
    tally = Tally(50 * MS, seconds=4)
    for number, latency_ms in enumerate(latencies_ms):
        tally.offered(number * 37 * MS % 4_000_000_000, 1000)
        tally.answered(number * 37 * MS % 4_000_000_000, round(latency_ms * MS))
    for _ in range(failed):
        tally.offered(0, 1000)
        tally.failed(0, "reset")
    offered, attained, late, refused, verdict = tally.totals(0.99)
    latency = tally.latency()
    return LoadResult(
        url="http://h/<&>",
        target="HTTP",
        arrivals="poisson",
        rate_per_s=rate,
        offered_per_s=rate,
        seconds=4,
        warm_up_s=1,
        seed=1,
        deadline_ms=50,
        in_flight_limit=10,
        offered=offered,
        attained=attained,
        late=late,
        refused=refused,
        errors=tally.errors,
        statuses={},
        attainment=attained / offered if offered else 0.0,
        goodput_per_s=attained / 4,
        verdict=verdict,
        latency=latency.percentiles(),
        refusal_latency=None,
        generator=Generator(0.1, 0.1, 0.05, 3, tally.lag.percentiles()),
        per_second=tuple(tally.second(number) for number in range(4)),
        histogram=latency.rows(),
        void=void,
    )


def points(page: Page) -> list[tuple[float, float]]:
    found = [point for shape in page.shapes if isinstance(shape, Line) for point in shape.points]
    return found + [(shape.x, shape.y) for shape in page.shapes if isinstance(shape, Dot | Text)]


latencies = st.lists(st.floats(0.0001, 100_000), max_size=60)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.1, 1e6), latencies, st.integers(0, 5)), min_size=1, max_size=6))
def test_any_results_are_drawn_on_the_page(runs: list[tuple[float, list[float], int]]) -> None:
    page = draw([result_of(rate, found, failed) for rate, found, failed in runs])
    assert all(0 <= x <= page.width and 0 <= y <= page.height for x, y in points(page))
    ElementTree.fromstring(svg(page))


def test_one_run_is_drawn_over_time_and_several_over_their_rates() -> None:
    alone = svg(draw([result_of(100, [1, 2, 3], failed=2)]))
    assert "seconds, by intended send time" in alone
    assert "failed 2" in alone
    assert "http://h/&lt;&amp;&gt;" in alone
    several = svg(draw([result_of(200, [60], void="lag"), result_of(100, [1] * 500)]))
    assert "offered, requests/s" in several
    assert "void" in several


def test_a_void_run_says_so_in_its_picture() -> None:
    assert "VOID" in svg(draw([result_of(100, [1], void="lag")]))


def test_png_is_the_same_page_where_pillow_is_installed() -> None:
    pytest.importorskip("PIL")
    assert png(draw([result_of(100, [1, 2, 3])])).startswith(b"\x89PNG\r\n")


@given(st.floats(1e-6, 1e9))
def test_steps_between_ticks_are_round(value: float) -> None:
    step = round_up(value)
    assert value <= step * (1 + 1e-9) <= value * 2.51
    assert float(f"{step:.0e}") == pytest.approx(step)


@pytest.mark.parametrize("axis", [Axis(0, 1050, 0, 600), Axis(0.07, 1.4, 300, 50, logarithmic=True)])
def test_every_axis_has_labels(axis: Axis) -> None:
    assert 2 <= len(axis.ticks()) <= 8
