"""The Magika example looks at the same bytes, and trusts the network as far, as the official library."""

from __future__ import annotations

import io

import msgspec
import numpy as np
import pytest
from demo import prepare
from hypothesis import given
from hypothesis import strategies as st
from identify import ContentType, Settings, label_from_score, label_without_network, tokens

official = pytest.importorskip("magika", reason="the official library comes with the extra 'examples'")
seekable = pytest.importorskip("magika.types.seekable")

SETTINGS = Settings(
    beg_size=4,
    mid_size=0,
    end_size=4,
    block_size=16,
    padding_token=256,
    min_file_size_for_dl=3,
    use_inputs_at_offsets=False,
    medium_confidence_threshold=0.5,
    target_labels_space=["python", "markdown", "zip", "oldmarkdown"],
    thresholds={"markdown": 0.75},
    overwrite_map={"oldmarkdown": "markdown"},
)
TYPES = {
    "python": ContentType(is_text=True),
    "markdown": ContentType(is_text=True),
    "zip": ContentType(is_text=False),
    "txt": ContentType(is_text=True),
}

# White space, text, half characters and binary, in lengths around every boundary.
PIECES = st.sampled_from([b" ", b"\n", b"\t\x0b\x0c", b"a", b"import os\n", "é".encode(), b"\xc3", b"\xff", b"\0"])
CONTENTS = st.lists(st.tuples(PIECES, st.integers(1, 4) | st.integers(1, 40)), max_size=6).map(
    lambda parts: b"".join(piece * times for piece, times in parts)
)


@given(CONTENTS)
def test_the_network_is_shown_the_bytes_that_the_official_library_shows_it(content: bytes) -> None:
    features = official.Magika._extract_features_from_seekable(
        seekable.Seekable(io.BytesIO(content)),
        SETTINGS.beg_size,
        SETTINGS.mid_size,
        SETTINGS.end_size,
        SETTINGS.padding_token,
        SETTINGS.block_size,
        SETTINGS.use_inputs_at_offsets,
    )
    row = tokens(content, SETTINGS)
    assert row.dtype == np.int32
    assert row.tolist() == [[*features.beg, *features.end]]


@pytest.fixture(scope="module")
def library() -> object:
    return official.Magika()


@pytest.fixture(scope="module")
def settings() -> Settings:
    return msgspec.json.decode((prepare() / "config.min.json").read_bytes(), type=Settings)


LONG_CONTENTS = st.lists(st.tuples(PIECES, st.integers(1, 2100)), max_size=4).map(
    lambda parts: b"".join(piece * times for piece, times in parts)
)


@given(content=CONTENTS | LONG_CONTENTS)
def test_a_file_is_judged_without_the_network_exactly_where_the_official_library_does(
    library: official.Magika, settings: Settings, content: bytes
) -> None:
    result, features = library._get_result_or_features_from_seekable(seekable.Seekable(io.BytesIO(content)))
    label = label_without_network(content, settings)
    assert (label is None) == (features is not None)
    if result is not None:
        assert label == result.prediction.output.label


@given(index=st.integers(0, 213), score=st.floats(0, 1))
def test_a_score_is_trusted_exactly_where_the_official_library_trusts_it(
    library: official.Magika, settings: Settings, index: int, score: float
) -> None:
    guess = settings.target_labels_space[index]
    expected, _ = library._get_output_label_from_dl_label_and_score(guess, score)
    types = msgspec.json.decode((prepare() / "content_types_kb.min.json").read_bytes(), type=dict[str, ContentType])
    assert label_from_score(guess, score, settings, types) == expected


def test_a_weak_guess_becomes_txt_or_unknown() -> None:
    assert label_from_score("markdown", 0.74, SETTINGS, TYPES) == "txt"
    assert label_from_score("markdown", 0.75, SETTINGS, TYPES) == "markdown"
    assert label_from_score("zip", 0.49, SETTINGS, TYPES) == "unknown"
    assert label_from_score("zip", 0.5, SETTINGS, TYPES) == "zip"


def test_a_label_that_is_only_the_networks_own_is_renamed_and_keeps_its_own_threshold() -> None:
    assert label_from_score("oldmarkdown", 0.6, SETTINGS, TYPES) == "markdown"
