"""The front drawn and written down: everything measured is in it, and nothing needs anything beside it."""

import xml.etree.ElementTree as ElementTree

import pytest

from setpoint.core import Objective
from setpoint.optimize import draw, front, page
from setpoint.optimize.study import Skipped, Study
from setpoint.plan import Dot, svg

GOAL = Objective.parse("p99<=20ms, drop<=1%")


@pytest.fixture
def study(entry) -> Study:
    entries = (
        entry("fp32", {1: 4.0, 8: 24.0}),
        entry("int8 <fast>", {1: 2.0, 8: 9.0}, loss=0.004),
    )
    points = tuple(front.point_of(each, measured, GOAL) for each in entries for measured in each.measured)
    return Study(
        model="m:1",
        objective=str(GOAL),
        floor=0.99,
        metric="accuracy",
        examples="rows",
        promised=True,
        hardware="here & now",
        entries=entries,
        skipped=(Skipped("fused", "nothing <found>"),),
        points=points,
        front=front.front_of(points),
        chosen=front.choose(points, GOAL),
        warnings=("busy",),
        seconds=1.0,
    )


def test_the_picture_has_every_point_and_is_valid_svg(study) -> None:
    drawn = draw(study)
    dots = [shape for shape in drawn.shapes if isinstance(shape, Dot)]
    assert len(dots) == 2 + 2 + 2, "two points, the chosen one circled, two in the legend"
    texts = [element.text for element in ElementTree.fromstring(svg(drawn)).iter() if element.tag.endswith("text")]
    assert "int8 <fast> 1 x 2" in texts
    assert all(0 <= dot.x <= drawn.width and 0 <= dot.y <= drawn.height for dot in dots)


def test_the_page_says_the_answer_every_row_and_what_was_left_out(study) -> None:
    html = page(study, GOAL)
    assert html.count("<tr") == 1 + 2
    assert "<tr class='chosen'><td>int8 &lt;fast&gt;</td>" in html
    assert "<b>fused</b>: nothing &lt;found&gt;" in html
    assert "at most 0.4 % with 97.5 % confidence" in html
    assert "here &amp; now" in html
    assert "http" not in html.replace("http://www.w3.org/2000/svg", ""), "needs nothing beside it"


def test_a_study_without_a_point_in_time_is_drawn_too(study) -> None:
    import msgspec

    none = msgspec.structs.replace(study, points=(), front=(), chosen=None)
    assert "no variant holds the objective here" in svg(draw(none))
    assert "cannot be held here" in page(none, GOAL)
