"""Arenas: both sides see the same bytes, whatever grew meanwhile, and never more than the limit."""

import gc
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.core import MIB, RequestTooLarge
from setpoint.worker.arena import ALIGNMENT_BYTES, Arena, layout


def two_sides(limit_bytes: int = 64 * MIB) -> tuple[Arena, Arena]:
    """A writer and a reader of one memory, as node and worker have them."""
    writer = Arena.create(limit_bytes)
    return writer, Arena(os.dup(writer.descriptor), limit_bytes)


def close(*arenas: Arena) -> None:
    for arena in arenas:
        arena.close()


def test_what_one_side_writes_the_other_reads():
    writer, reader = two_sides()
    writer.write(128, b"hello")
    writer.view(256, np.dtype("<f8"), (2, 3))[...] = np.arange(6).reshape(2, 3)
    assert reader.read(128, 5) == b"hello"
    np.testing.assert_array_equal(reader.view(256, np.dtype("<f8"), (2, 3)), np.arange(6).reshape(2, 3))
    close(writer, reader)


def test_a_reader_follows_a_writer_that_grew():
    writer, reader = two_sides()
    end = 9 * MIB
    writer.reserve(end)
    writer.write(end - 4, b"last")
    assert reader.size_bytes < end
    reader.follow(writer.size_bytes)
    assert reader.size_bytes == writer.size_bytes
    assert reader.read(end - 4, 4) == b"last"
    close(writer, reader)


def test_views_survive_a_remap_on_either_side():
    writer, reader = two_sides()
    mine, theirs = (arena.view(64, np.dtype("u1"), (1000,)) for arena in (writer, reader))
    mine[...] = 7
    writer.reserve(5 * MIB)
    reader.follow(writer.size_bytes)
    gc.collect()
    assert theirs.sum() == 7000
    mine[...] = 9  # the old mapping and the new one are the same memory
    assert reader.view(64, np.dtype("u1"), (1000,)).sum() == 9000
    close(writer, reader)
    gc.collect()
    assert theirs.sum() == 9000, "a view outlives even the arena"


def test_following_a_size_that_is_mapped_already_changes_nothing():
    writer, reader = two_sides()
    before = reader.view(0, np.dtype("u1"), (8,))
    reader.follow(writer.size_bytes)
    reader.follow(0)
    assert np.shares_memory(before, reader.view(0, np.dtype("u1"), (8,)))
    close(writer, reader)


def test_growth_stops_at_the_limit_and_says_both_numbers():
    arena = Arena.create(3 * MIB)
    arena.reserve(3 * MIB)
    assert arena.size_bytes == 3 * MIB
    with pytest.raises(RequestTooLarge, match=rf"{3 * MIB + 1} bytes .* {3 * MIB} bytes"):
        arena.reserve(3 * MIB + 1)
    assert arena.size_bytes == 3 * MIB
    arena.write(3 * MIB - 1, b"x")  # still whole
    arena.close()


def test_the_memory_has_no_name_that_could_be_left_behind():
    before = set(os.listdir("/dev/shm"))
    arena = Arena.create(MIB)
    assert set(os.listdir("/dev/shm")) == before
    assert not os.get_inheritable(arena.descriptor), "only the worker it is meant for inherits it"
    arena.close()


@given(st.lists(st.integers(0, 3 * MIB), max_size=12))
def test_any_sequence_of_reservations_keeps_what_was_written(needs: list[int]):
    writer, reader = two_sides(4 * MIB)
    for index, needed in enumerate(needs):
        writer.reserve(needed)
        assert needed <= writer.size_bytes <= 4 * MIB
        writer.write(index, bytes([index]))
    reader.follow(writer.size_bytes)
    assert reader.read(0, len(needs)) == bytes(range(len(needs)))
    close(writer, reader)


@given(st.lists(st.integers(0, 10_000), max_size=20))
def test_a_layout_is_aligned_in_order_and_without_overlap(sizes: list[int]):
    offsets, end = layout(sizes)
    assert all(offset % ALIGNMENT_BYTES == 0 for offset in offsets)
    reached = 0
    for offset, size in zip(offsets, sizes, strict=True):
        assert reached <= offset < reached + ALIGNMENT_BYTES
        reached = offset + size
    assert end == reached
