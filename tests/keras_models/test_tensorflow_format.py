"""Keras files and SavedModels become ONNX by the SavedModel route, with the answers that Keras gives."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow

from setpoint.core import InvalidConfiguration, UntrustedFile
from setpoint.engines import EngineOptions, load_executable
from setpoint.formats import PackOptions, recognise

pytestmark = pytest.mark.filterwarnings("ignore")


def digits() -> keras.Model:
    """A convolutional net for 8x8 images."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax"),
    ]
    return keras.Sequential([keras.Input((8, 8, 1), name="image"), *layers])


@pytest.mark.parametrize("kind", [".keras", ".h5", "saved"])
def test_it_becomes_onnx_with_keras_answers(tmp_path: Path, kind: str) -> None:
    model = digits()
    source = tmp_path / f"digits{kind}"
    model.export(str(source), verbose=False) if kind == "saved" else model.save(source)
    assert recognise(source).name == "tensorflow"
    work = tmp_path / "work"
    work.mkdir()
    packed = recognise(source).pack(source, PackOptions(), work)
    assert packed.manifest.signature is not None
    assert packed.manifest.signature.batched
    assert packed.manifest.variants[0].engine == "onnxruntime"
    (spec,) = packed.manifest.signature.inputs
    assert spec.shape == (-1, 8, 8, 1)
    images = np.random.default_rng(0).standard_normal((7, 8, 8, 1)).astype(np.float32)
    answers = load_executable(packed.manifest.variants[0], work, EngineOptions()).run({spec.name: images})
    (answer,) = answers.values()
    np.testing.assert_allclose(answer, model(images).numpy(), atol=1e-5)


def test_a_layer_of_pickled_code_is_refused(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x * 2)])
    model.save(tmp_path / "model.keras")
    with pytest.raises(UntrustedFile, match="a layer of pickled code"):
        recognise(tmp_path / "model.keras").pack(tmp_path / "model.keras", PackOptions(), tmp_path)


def test_a_saved_model_without_a_signature_is_refused(tmp_path: Path) -> None:
    module = tensorflow.Module()
    module.weight = tensorflow.Variable(1.0)
    tensorflow.saved_model.save(module, str(tmp_path / "bare"))
    with pytest.raises(InvalidConfiguration, match="has no signature 'serving_default'"):
        recognise(tmp_path / "bare").pack(tmp_path / "bare", PackOptions(), tmp_path)
