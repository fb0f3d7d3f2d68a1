"""gzip and deflate: what was compressed comes out again, within its limit, and a slice at a time."""

import gzip
import zlib
from collections.abc import Generator
from contextlib import suppress
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.core import InvalidRequest, RequestError, RequestTooLarge
from setpoint.wire.compression import CODINGS, answer_coding, deflate, inflate

T = TypeVar("T")
MIB = 1 << 20


def finish(work: Generator[None, None, T]) -> tuple[T, int]:
    """What it returns, and in how many slices."""
    slices = 1
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value, slices
        slices += 1


@given(st.binary(max_size=5000), st.sampled_from(CODINGS))
def test_what_was_compressed_comes_out_again(body: bytes, coding: str) -> None:
    compressed, _ = finish(deflate(body, coding))
    assert finish(inflate(compressed, coding, MIB))[0] == body


def test_others_compressors_are_understood() -> None:
    body = bytes(range(256)) * 100
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    for coding, compressed in (
        ("gzip", gzip.compress(body)),
        ("deflate", zlib.compress(body)),
        ("deflate", raw.compress(body) + raw.flush()),
    ):
        assert finish(inflate(compressed, coding, MIB))[0] == body


@given(st.binary(max_size=300), st.sampled_from(CODINGS), st.booleans(), st.data())
def test_any_bytes_are_read_or_refused(body: bytes, coding: str, valid: bool, data: st.DataObject) -> None:
    if valid:
        body, _ = finish(deflate(body, coding))
        body = body[: data.draw(st.integers(0, len(body)))] + data.draw(st.binary(max_size=3))
    with suppress(RequestError):
        finish(inflate(body, coding, 100))


@pytest.mark.parametrize("coding", CODINGS)
def test_a_bomb_is_refused_at_the_limit_and_not_unpacked(coding: str) -> None:
    bomb, _ = finish(deflate(bytes(64 * MIB), coding))
    work = inflate(bomb, coding, MIB)
    with pytest.raises(RequestTooLarge, match="decompresses to more than the limit of 1048576 bytes"):
        finish(work)


def test_a_body_of_exactly_the_limit_is_read() -> None:
    assert len(finish(inflate(gzip.compress(bytes(MIB)), "gzip", MIB))[0]) == MIB


@pytest.mark.parametrize("coding", CODINGS)
def test_large_bodies_take_many_slices(coding: str) -> None:
    compressed, slices = finish(deflate(bytes(8 * MIB), coding))
    assert slices > 100
    assert finish(inflate(compressed, coding, 8 * MIB))[1] >= 30


def test_long_input_that_gives_nothing_takes_many_slices_too() -> None:
    nothing = b"\x00\x00\x00\xff\xff" * 2_000_000 + b"\x03\x00"  # empty stored blocks, then an empty last one
    assert finish(inflate(nothing, "deflate", MIB))[1] > 30


@pytest.mark.parametrize("coding", CODINGS)
def test_a_stream_must_be_whole_and_alone(coding: str) -> None:
    whole, _ = finish(deflate(b"text" * 100, coding))
    with pytest.raises(InvalidRequest, match="ends before its stream does"):
        finish(inflate(whole[:-3], coding, MIB))
    for more in (b"!", whole):
        with pytest.raises(InvalidRequest, match="something stands behind the end"):
            finish(inflate(whole + more, coding, MIB))


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        (b"gzip", "gzip"),
        (b" Deflate ", "deflate"),
        (b"gzip;q=1.0", "gzip"),
        (b"gzip; q=0", ""),
        (b"gzip, deflate", ""),
        (b"gzip, deflate, br", ""),
        (b"br", ""),
        (b"identity", ""),
        (b"*", ""),
        (b"\xff", ""),
        (None, ""),
    ],
)
def test_only_clients_that_ask_for_one_coding_get_it(accept: bytes | None, coding: str) -> None:
    assert answer_coding(accept, MIB) == coding
    assert answer_coding(accept, 100) == ""
