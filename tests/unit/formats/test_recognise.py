"""Formats are asked in order, and errors cross processes unchanged."""

from pathlib import Path

import pytest

from setpoint.core import ConversionMismatch, InternalError, MissingExtra, QueueFull, SetpointError, UnknownFormat
from setpoint.formats import BUILT_IN, formats, recognise
from setpoint.formats.isolated import Failed, freeze, revive


def test_what_nobody_reads_is_answered_with_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("nothing to see")
    with pytest.raises(UnknownFormat, match=rf"no format that Setpoint reads: {', '.join(BUILT_IN)}\. Wrap it"):
        recognise(path)
    with pytest.raises(UnknownFormat, match="there is no file or folder"):
        recognise(tmp_path / "absent")


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"PK\x03\x04", b"\x80", b"\x1f\x8b\x08", b"x\x9c", b"BZh9", b"\xfd7zXZ\0"]
)
def test_scraps_of_other_formats_break_no_format(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scrap"
    path.write_bytes(content)
    assert [candidate.name for candidate in formats() if candidate.recognises(path)] == []


@pytest.mark.parametrize(
    "error",
    [
        UnknownFormat("no such thing"),
        ConversionMismatch("label differs in 3.2% of rows"),
        MissingExtra("skops", "sklearn", "packing a.skops"),
        QueueFull("full", retry_after_s=2.5),
    ],
)
def test_an_error_comes_back_as_it_was(error: SetpointError) -> None:
    revived = revive(freeze(error))
    assert type(revived) is type(error)
    assert str(revived) == str(error)
    assert vars(revived) == vars(error)


def test_an_unknown_error_is_our_bug() -> None:
    assert type(revive(Failed("NoSuchError", "what?"))) is InternalError
