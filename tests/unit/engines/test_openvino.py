"""OpenVINO runs the same files with the same answers, in the precision that is asked for and no other."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from setpoint.core import InvalidConfiguration, ModelError
from setpoint.engines import EngineOptions, engine, load_onnx

pytest.importorskip("openvino")

WEIGHTS = np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)
ROWS = np.random.default_rng(1).standard_normal((5, 64)).astype(np.float32)


@pytest.fixture
def product(graph: Callable[..., Path]) -> Path:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("ReduceSum", ["y", "axis"], ["total"])]
    constants = (numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(np.array([1]), "axis"))
    return graph(
        nodes, {"x": ("FLOAT", ["n", 64])}, {"y": ("FLOAT", ["n", 8]), "total": ("FLOAT", ["n", 1])}, constants
    )


def test_answers_are_those_of_onnxruntime_by_name(product: Path) -> None:
    expected = load_onnx(product, EngineOptions()).run({"x": ROWS})
    executable = engine("openvino").load(product, "", EngineOptions(threads=1))
    answers = executable.run({"x": ROWS})
    assert set(answers) == {"y", "total"}
    for name, array in answers.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-4)
    executable.close()


def test_answers_outlive_the_next_run(product: Path) -> None:
    executable = engine("openvino").load(product, "fp32", EngineOptions())
    first = executable.run({"x": ROWS})["y"]
    before = first.copy()
    executable.run({"x": -ROWS[:2]})
    np.testing.assert_array_equal(first, before)


def test_what_does_not_fit_is_the_models_error(product: Path) -> None:
    executable = engine("openvino").load(product, "fp32", EngineOptions())
    with pytest.raises(ModelError, match="the model failed: "):
        executable.run({"x": ROWS[:, :3]})


def test_an_unknown_precision_or_file_is_refused(product: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InvalidConfiguration, match="OpenVINO computes in fp32, bf16, fp16; this variant asks for 'fp8'"
    ):
        engine("openvino").load(product, "fp8", EngineOptions())
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    with pytest.raises(ModelError, match=r"broken\.onnx cannot be loaded by OpenVINO"):
        engine("openvino").load(broken, "", EngineOptions())
