"""Keras' and TensorFlow's rows of the table in docs/formats.md: packed, served over HTTP, beside Keras itself."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow

import setpoint as sp
from formats_table import BATCH, check_row
from setpoint.engines import EngineOptions, load_executable
from setpoint.registry import Registry, pack_source

pytestmark = pytest.mark.filterwarnings("ignore")
IMAGES = np.random.default_rng(0).standard_normal((BATCH, 8, 8, 1)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("Keras (.keras)", ".keras"), ("Keras (.h5)", ".h5"), ("TensorFlow SavedModel (folder)", "saved")],
)
def test_it_packs_and_serves_keras_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, suffix: str
) -> None:
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Conv2D(16, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax"),
    ]
    model = keras.Sequential([keras.Input((8, 8, 1), name="image"), *layers])
    source = tmp_path / f"digits{suffix}"
    model.export(str(source), verbose=False) if suffix == "saved" else model.save(source)
    monkeypatch.setenv("SETPOINT_HOME", str(tmp_path / "home"))
    registry = Registry.default()
    bundle, _ = pack_source(source, name="model", registry=registry)
    (takes,), (gives,) = bundle.manifest.signature.inputs, bundle.manifest.signature.outputs  # type: ignore[union-attr]
    with sp.serve("model", threads=1) as service:
        given = service.infer({takes.name: IMAGES[:9]})[gives.name]
    np.testing.assert_allclose(given, model(IMAGES[:9]).numpy(), rtol=1e-3, atol=1e-5)
    run = tensorflow.function(model)  # what Keras' own predict compiles, without its progress and its copies
    executable = load_executable(bundle.manifest.variants[0], registry.folder(bundle), EngineOptions(threads=1))
    check_row(
        name,
        bundle.manifest,
        lambda rows: executable.run({takes.name: IMAGES[:rows]}),
        lambda rows: run(IMAGES[:rows]).numpy(),
    )
    executable.close()
