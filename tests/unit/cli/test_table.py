"""Tables line up, and progress is shown to people only."""

import io

import pytest

from setpoint.cli.progress import working
from setpoint.cli.table import render


def test_columns_line_up_and_lines_end_without_blanks() -> None:
    assert render(("NAME", "SIZE", "X"), [("a", "1", ""), ("longer", "100", "y")], right=("SIZE",)) == (
        "NAME    SIZE  X\na          1\nlonger   100  y"
    )


def test_progress_is_silent_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with working("packing"):
        pass
    assert capsys.readouterr().err == ""


def test_progress_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with working("packing model.onnx"):
        pass
    assert "packing model.onnx" in terminal.getvalue()
