"""Files that an engine reads as they are: ``.ort``, ``.tflite``, OpenVINO's ``.xml``."""

from pathlib import Path

import numpy as np
import pytest

import digits_files as files
from digits_files import DIGITS, LEARNT, openvino_file
from setpoint.core import ConfigurationError, InvalidConfiguration, UnknownFormat, UntrustedFile
from setpoint.engines import EngineOptions, load_executable
from setpoint.formats import PackOptions, pack_isolated, recognise
from setpoint.formats.base import PackedModel


def ort_file(folder: Path) -> Path:
    return files.ort_file(folder).rename(folder / "digits.model")  # the content tells, not the suffix


def tflite_file(folder: Path) -> Path:
    return files.tflite_file(folder).rename(folder / "digits.bin")


def pack(source: Path, folder: Path) -> PackedModel:
    (folder / "work").mkdir(exist_ok=True)
    return recognise(source).pack(source, PackOptions(), folder / "work")


@pytest.mark.parametrize(
    ("make", "engine"), [(ort_file, "onnxruntime"), (openvino_file, "openvino"), (tflite_file, "litert")]
)
def test_they_are_recognised_probed_and_run(tmp_path: Path, make, engine: str) -> None:
    packed = pack(make(tmp_path), tmp_path)
    (variant,) = packed.manifest.variants
    assert variant.engine == engine
    assert str(packed.manifest.signature).startswith("image FP32[-1, 64] → probabilities FP32[-1, 10]")
    assert packed.manifest.signature.batched
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name, file in packed.files.items():
        (folder / name).write_bytes(file.read_bytes())
    answers = load_executable(variant, folder, EngineOptions()).run({"image": DIGITS[:9]})
    np.testing.assert_allclose(answers["probabilities"], LEARNT.predict_proba(DIGITS[:9]), atol=1e-5)


def test_an_openvino_folder_is_a_model(tmp_path: Path) -> None:
    source = openvino_file(tmp_path).parent
    assert recognise(source).name == "openvino"
    assert set(pack(source, tmp_path).files) == {"model.xml", "model.bin"}


def test_missing_weights_are_named(tmp_path: Path) -> None:
    source = openvino_file(tmp_path)
    source.with_suffix(".bin").unlink()
    with pytest.raises(InvalidConfiguration, match=r"its weights file 'digits\.bin' is missing beside it"):
        pack(source, tmp_path)


def test_entities_in_xml_are_not_read(tmp_path: Path) -> None:
    source = openvino_file(tmp_path)
    bomb = '<?xml version="1.0"?>\n<!DOCTYPE net [<!ENTITY a "' + "x" * 50 + '"><!ENTITY b "&a;&a;&a;">]>\n'
    text = source.read_text()
    source.write_text(text[: text.index("<net")] + text[text.index("<net") :].replace("<layers>", f"{bomb}<layers>", 1))
    with pytest.raises(UntrustedFile, match="defines XML entities"):
        pack(source, tmp_path)


@pytest.mark.parametrize("make", [ort_file, openvino_file, tflite_file])
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_half_a_file_is_refused_in_a_sentence(tmp_path: Path, make, share: float) -> None:
    source = make(tmp_path)
    content = source.read_bytes()
    source.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ConfigurationError) as caught:
        pack_isolated(source, PackOptions(), tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_other_xml_is_not_taken_for_a_network(tmp_path: Path) -> None:
    (tmp_path / "other.xml").write_text('<?xml version="1.0"?><net name="fish"></net>')
    with pytest.raises(UnknownFormat):
        recognise(tmp_path / "other.xml")
