"""Formats that are known and not served say what they are and what to do."""

from pathlib import Path

import pytest

from setpoint.core import InvalidConfiguration
from setpoint.formats import PackOptions, recognise


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"GGUF\x03\0\0\0", "gguf", "needs the language-model engine"),
        (b"<PMML version='4.4' />", "pmml", "export ONNX, or save the model itself"),
        (b'<!-- made by x -->\n<pmml:PMML xmlns:pmml="http://x"/>', "pmml", "export ONNX, or save the model itself"),
    ],
)
def test_the_refusal_says_what_it_is(tmp_path: Path, content: bytes, name: str, said: str) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    candidate = recognise(path)
    assert candidate.name == name
    with pytest.raises(InvalidConfiguration, match=said):
        candidate.pack(path, PackOptions(), tmp_path)
