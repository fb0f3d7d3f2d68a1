"""Large weights get a file of their own, with the same bytes; small models stay as they are."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from setpoint.engines import EngineOptions, load_onnx
from setpoint.formats import PackOptions
from setpoint.formats.onnx import OnnxFormat
from setpoint.formats.onnx_weights import WEIGHTS, set_weights_apart


def layered(width: int, path: Path) -> onnx.ModelProto:
    """``y = x @ a @ b`` with two matrices of different lengths, so that the second must be aligned."""
    generator = np.random.default_rng(7)
    a = generator.standard_normal((width, width + 1), np.float32)
    b = generator.standard_normal((width + 1, 3), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("MatMul", ["h", "b"], ["y"])],
        "layered",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(a, "a"), numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return model


def test_a_large_model_packs_as_graph_and_weights_and_answers_the_same(tmp_path: Path) -> None:
    source, workdir = tmp_path / "source.onnx", tmp_path / "work"
    workdir.mkdir()
    layered(700, source)
    packed = OnnxFormat().pack(source, PackOptions(), workdir)
    assert set(packed.files) == {"model.onnx", WEIGHTS}
    assert packed.files["model.onnx"].stat().st_size < 16_384
    x = np.random.default_rng(8).standard_normal((5, 700), np.float32)
    before = load_onnx(source, EngineOptions()).run({"x": x})["y"]
    after = load_onnx(packed.files["model.onnx"], EngineOptions()).run({"x": x})["y"]
    assert after.tobytes() == before.tobytes()


def test_weights_are_the_same_bytes_at_whole_pages(tmp_path: Path) -> None:
    model = layered(700, tmp_path / "source.onnx")
    original = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert set_weights_apart(model, tmp_path / WEIGHTS)
    content = (tmp_path / WEIGHTS).read_bytes()
    moved = [tensor for tensor in model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL]
    assert [tensor.name for tensor in moved] == ["a"], "b is too small to be worth a page"
    for tensor in moved:
        fields = {entry.key: entry.value for entry in tensor.external_data}
        offset, length = int(fields["offset"]), int(fields["length"])
        assert offset % 4096 == 0
        assert content[offset : offset + length] == original[tensor.name].tobytes()
        assert not tensor.raw_data


@pytest.mark.parametrize("width", [4, 500], ids=["tiny", "just below a mebibyte"])
def test_a_small_model_stays_one_file_byte_for_byte(width: int, tmp_path: Path) -> None:
    source, workdir = tmp_path / "source.onnx", tmp_path / "work"
    workdir.mkdir()
    layered(width, source)
    packed = OnnxFormat().pack(source, PackOptions(), workdir)
    assert packed.files == {"model.onnx": source}


def test_packing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    source = tmp_path / "source.onnx"
    layered(700, source)
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        files = OnnxFormat().pack(source, PackOptions(), tmp_path / name).files
        found.append({path: place.read_bytes() for path, place in files.items()})
    assert found[0] == found[1]
