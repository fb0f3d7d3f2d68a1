"""Two forms of a model: measured in turns, decided by a margin, remembered by content."""

from pathlib import Path

import pytest

from setpoint.formats.choice import Comparison, Timed, compare_speed, remembered, remembering


class Machine:
    """A clock that runs move: so long, per row, for each form; everything is slower in some rounds."""

    def __init__(self, first_ns: float, second_ns: float) -> None:
        self.now = 0.0
        self.takes = (first_ns, second_ns)
        self.ran: list[int] = []

    def run(self, form: int, rows: int) -> None:
        self.ran.append(form)
        busy = 10 if len(self.ran) // 400 % 3 == 1 else 1
        self.now += busy * self.takes[form] * rows

    def compare(self, budget_s: float = 1.0) -> Comparison:
        return compare_speed(
            lambda rows: self.run(0, rows), lambda rows: self.run(1, rows), (1, 64),
            clock_ns=lambda: int(self.now), budget_s=budget_s,
        )  # fmt: skip


def test_what_is_measured_is_what_each_takes() -> None:
    found = Machine(200_000, 50_000).compare()
    assert found.ratio == pytest.approx(0.25, rel=0.05)
    assert [size.rows for size in found.sizes] == [1, 64]
    assert found.sizes[1].second_ms == pytest.approx(64 * 0.05, rel=0.2)
    assert "1 row 0.2 ms as ONNX and 0.05 ms in x" in found.words("as ONNX", "in x")


def test_the_forms_take_turns_at_going_first() -> None:
    machine = Machine(2e9, 2e9)  # one run is a visit
    machine.compare()
    visits = [tuple(machine.ran[place : place + 2]) for place in range(4, len(machine.ran), 2)]
    assert visits == [(0, 1), (0, 1), (1, 0), (1, 0)] * 2 + [(0, 1)] * 2


def test_a_slow_model_is_measured_a_few_times_and_not_for_ever() -> None:
    machine = Machine(1e9, 2e9)
    found = machine.compare(budget_s=0.1)
    assert found.ratio == pytest.approx(2.0, rel=0.01)
    assert len(machine.ran) == 2 * 2 * 6


def test_what_was_measured_is_remembered_by_content(tmp_path: Path) -> None:
    measured: list[int] = []

    def measure() -> Comparison:
        measured.append(1)
        return Comparison((Timed(1, 1.0, float(len(measured)), float(len(measured))),))

    with remembering(tmp_path / "measured"):
        first = remembered(["digest", "library 1"], measure)
        assert remembered(["digest", "library 1"], measure) == first
        assert remembered(["digest", "library 2"], measure) != first
        (tmp_path / "measured" / next(iter((tmp_path / "measured").iterdir())).name).write_text("{")
        remembered(["digest", "library 1"], measure)
        remembered(["digest", "library 2"], measure)
    assert len(measured) == 3
    remembered(["digest", "library 1"], measure)
    assert len(measured) == 4


def test_where_nothing_can_be_kept_it_is_measured_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with remembering(tmp_path / "file" / "measured"):
        assert remembered(["x"], lambda: Comparison((Timed(1, 1.0, 3.0, 3.0),))).ratio == pytest.approx(3.0)
