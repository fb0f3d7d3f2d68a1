"""The check of the MiniLM example fails when it should."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tokenizers", reason="comes with the extra 'examples'")

import run


def test_likeness_is_the_cosine_whatever_the_lengths() -> None:
    likeness = run.cosines(
        np.array([[3.0, 0.0], [0.0, 2.0], [1.0, 0.0]]), np.array([[1.0, 0.0], [0.0, -1.0], [1.0, 1.0]])
    )
    np.testing.assert_allclose(likeness, [1, -1, 2**-0.5])


def test_sentences_are_distinct_and_include_one_that_must_be_cut() -> None:
    texts = run.sentences(60)
    assert len(texts) == len(set(texts)) == 60
    assert max(len(text.split()) for text in texts) > 256


def test_a_vector_that_differs_or_is_not_a_number_disagrees() -> None:
    assert run.disagreeing(np.array([1.0, 0.99995, 0.9999, -1.0, np.nan])) == [2, 3, 4]
