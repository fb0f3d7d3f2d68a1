"""The Python steps of the OCR example, without its networks."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pages
import pytest
from build import turner
from cut import Cut, boxes, in_reading_order
from hypothesis import given
from hypothesis import strategies as st
from pictures import cut_out, resized
from regions import clockwise, grown, regions, smallest_rectangle
from scipy import ndimage
from spell import Spell

SQUARE = np.array([[0, 0], [4, 0], [4, 2], [0, 2]], float)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.2, 0.45, 0.7]))
def test_regions_are_what_hangs_together(seed: int, density: float) -> None:
    mask = np.random.default_rng(seed).random((9, 11)) < density
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    wanted = {frozenset(map(tuple, np.argwhere(labels == one).tolist())) for one in range(1, count + 1)}
    found = regions(mask)
    assert {frozenset(map(tuple, pixels.tolist())) for pixels in found} == wanted
    assert sum(map(len, found)) == mask.sum()
    assert [len(pixels) for pixels in found] == sorted(map(len, found), reverse=True)


@given(st.floats(0, 3.1), st.floats(1, 30), st.floats(1, 30))
def test_the_smallest_rectangle_around_a_turned_one_is_that(angle: float, width: float, height: float) -> None:
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = (SQUARE / [4, 2] * [width, height]) @ turn
    inside = corners.mean(axis=0) + (corners - corners.mean(axis=0)) * 0.5
    found = smallest_rectangle(np.concatenate([corners, inside]))
    sides = np.hypot(*(found - np.roll(found, -1, axis=0)).T)
    assert sides[0] * sides[1] == pytest.approx(width * height, rel=1e-6)


def test_a_box_grows_by_its_area_and_perimeter_on_every_side() -> None:
    by = 8 * 1.5 / 12  # area · ratio / perimeter
    outwards = np.array([[-by, -by], [by, -by], [by, by], [-by, by]])
    np.testing.assert_allclose(clockwise(grown(SQUARE, 1.5)), SQUARE + outwards)


def test_a_quadrilateral_is_cut_out_upright() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:20, 20:50] = 200
    image[10:20, 20:25] = 90  # where the line begins
    quad = np.array([[20, 10], [50, 10], [50, 20], [20, 20]], np.float32) - 0.5
    piece = cut_out(image, quad, 10, 30)
    assert (piece[:, :4] == 90).all()
    assert (piece[:, 6:] == 200).all()
    turned = cut_out(image, np.roll(quad, 2, axis=0), 10, 30)
    np.testing.assert_allclose(turned, piece[::-1, ::-1], atol=1e-3)


@given(st.integers(1, 12), st.integers(1, 12))
def test_resizing_keeps_what_is_of_one_colour_and_does_nothing_to_what_fits(height: int, width: int) -> None:
    image = np.random.default_rng(1).integers(0, 255, (height, width, 3)).astype(np.uint8)
    np.testing.assert_array_equal(resized(image, height, width), image)
    assert (resized(np.full_like(image, 7), 5, 9) == 7).all()


def test_lines_are_found_in_a_map_and_come_in_reading_order() -> None:
    heat = np.zeros((64, 128), np.float32)
    heat[40:48, 10:60] = 0.9
    heat[9:17, 70:120] = 0.9  # a pixel higher than what stands before it
    heat[10:18, 5:50] = 0.9
    heat[30:32, 5:7] = 0.9  # too small
    heat[55:62, 5:100] = 0.4  # too weak
    found = boxes(heat, 128, 256)
    assert [(round(quad[0, 0]) < 20, round(quad[0, 1]) < 60) for quad in found] == [
        (True, True),
        (False, True),
        (True, False),
    ]
    assert in_reading_order([]) == []


def test_an_image_without_text_has_no_lines() -> None:
    lines = Cut().cut(np.zeros((32, 64, 3), np.uint8), np.zeros((1, 1, 32, 64), np.float32))
    assert lines.lines.shape[:3] == (0, 3, 48)
    assert (lines.widths.shape, lines.thumbnails.shape, lines.quads.shape) == ((0,), (0, 3, 48, 192), (0, 4, 2))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_the_turning_graph_turns_each_line_within_its_own_width(widths: list[int]) -> None:
    session = onnxruntime.InferenceSession(turner().SerializeToString())
    lines = np.random.default_rng(0).random((len(widths), 3, 48, 9)).astype(np.float32)
    (turned,) = session.run(None, {"line": lines, "width": np.array(widths, np.int64)})
    for line, width, got in zip(lines, widths, turned, strict=True):
        np.testing.assert_array_equal(got[..., :width], line[:, ::-1, :width][..., ::-1])
        np.testing.assert_array_equal(got[..., width:], line[:, ::-1, width:])


def test_spelling_joins_neighbours_and_keeps_what_blanks_divide() -> None:
    speller = Spell()
    speller.characters = ["", "a", "l", " "]
    ids = [np.array([1, 1, 0, 2, 2, 0, 2, 3, 0, 1]), np.array([0, 0])]
    read = speller.spell(ids, [np.linspace(0.1, 1, 10, dtype=np.float32), np.ones(2, np.float32)])
    assert [line.text for line in read] == ["all a", ""]
    assert read[0].score == pytest.approx(np.mean([0.1, 0.4, 0.7, 0.8, 1.0]))
    assert read[1].score == 0


def test_accuracy_counts_edits_and_reads_a_turned_page_from_its_end() -> None:
    assert pages.edits("kitten", "sitting") == 3
    assert pages.accuracy(["ab cd"], ["abcx"]) == 0.75
    page = pages.page(1, turned=True)
    assert page.accuracy(page.lines[::-1]) == 1
    assert page.accuracy(page.lines) < 1
    assert pages.page(1).pixels.shape == page.pixels.shape
