"""The Magika example's class gives the official library's own answers, to the last bit of the score."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort
import pytest
from demo import prepare, real_files
from identify import Magika

import setpoint as sp

official = pytest.importorskip("magika", reason="the official library comes with the extra 'examples'")

REPOSITORY = Path(__file__).resolve().parents[3]
ODD = [
    b"",
    b"a",
    b" " * 7,
    b" " * 9000,
    b"\xff" * 7,
    b"\xff" * 8,  # its scores move by 0.02 when the network runs it in a batch
    b" " * 4095 + "é".encode() + b"x" * 100,  # a character cut by the block's end
    b" " * 4090 + b"import os\n" * 9,
    b"\0" * 10_000,
    bytes(range(256)) * 1000,
]


@pytest.fixture(scope="module")
def model() -> Magika:
    folder = prepare()
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    model = Magika()
    model.network = lambda **inputs: {"target_label": session.run(["target_label"], inputs)[0]}
    model.settings_file = folder / "config.min.json"
    model.types_file = folder / "content_types_kb.min.json"
    model.load(sp.Context(folder))
    return model


def test_every_answer_is_the_official_librarys(model: Magika) -> None:
    library = official.Magika()
    contents = ODD + [path.read_bytes() for path in real_files(REPOSITORY)[::4]]
    assert len(contents) > 20
    for content, answer in zip(contents, model.identify(contents), strict=True):
        expected = library.identify_bytes(content)
        kind = expected.output
        assert answer.score == expected.score
        assert (answer.label, answer.description, answer.group, answer.mime_type, answer.is_text) == (
            kind.label,
            kind.description,
            kind.group,
            kind.mime_type,
            kind.is_text,
        )
