"""Sizes and times are read as people write them, and what is printed can be typed back."""

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.cli.units import ByteSize, Duration, format_bytes, format_seconds


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("65536", 65536), ("64MiB", 64 << 20), ("64 mib", 64 << 20), ("100MB", 100_000_000), ("1.5kB", 1500), ("7b", 7)],
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert ByteSize().convert(text, None, None) == size_bytes


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30.0), ("30s", 30.0), ("500ms", 0.5), ("2m", 120.0), ("1.5 h", 5400.0), ("5us", 5e-6)]
)
def test_times(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "ten", "5 lightyears", "1e9", "MiB", "nan", "inf"])
@pytest.mark.parametrize("kind", [ByteSize(), Duration()])
def test_what_is_no_amount_above_zero_is_misuse(kind: ByteSize | Duration, text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected such as"):
        kind.convert(text, None, None)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (731, "731 B"),
        (2_400_000, "2.3 MiB"),
        (92 << 20, "92 MiB"),
        (1023 << 10, "1.0 MiB"),
        (1 << 50, "1048576 GiB"),
    ],
)
def test_sizes_are_short_to_read(size_bytes: int, text: str) -> None:
    assert format_bytes(size_bytes) == text


@given(st.integers(1, 10_000_000))
def test_a_printed_time_reads_back_as_itself(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert Duration().convert(format_seconds(seconds), None, None) == pytest.approx(seconds, rel=1e-5)
