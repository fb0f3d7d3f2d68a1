"""ONNX files are recognised by what they are, carried with their weights, and never with anything else."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node

from setpoint.core import InvalidConfiguration
from setpoint.formats import PackedModel, PackOptions
from setpoint.formats.onnx import OnnxFormat, is_model, precision_of

Graph = Callable[..., Path]
ROWS = {"x": ("FLOAT", ["n", 4])}, {"y": ("FLOAT", ["n", 4])}


def negation(graph: Graph, **options: object) -> Path:
    return graph([make_node("Neg", ["x"], ["y"])], *ROWS, **options)


def pack(source: Path, workdir: Path, **options: object) -> PackedModel:
    workdir.mkdir(exist_ok=True)
    return OnnxFormat().pack(source, PackOptions(**options), workdir)  # type: ignore[arg-type]


def with_weights(folder: Path, location: str, file: str = "model.onnx") -> Path:
    """A model that adds weights which lie at ``location``; the file with them is not written."""
    weights = numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        weights.external_data.add(key=key, value=value)
    made = helper.make_graph(
        [make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [weights],
    )
    folder.mkdir(exist_ok=True)
    path = folder / file
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


# recognition


@pytest.mark.parametrize("name", ["model.onnx", "model.pkl", "model", "model.py"])
def test_a_model_is_recognised_whatever_it_is_called(graph: Graph, name: str) -> None:
    assert OnnxFormat().recognises(negation(graph, name=name))


def test_a_folder_with_one_model_is_one(graph: Graph, tmp_path: Path) -> None:
    negation(graph)
    (tmp_path / "config.json").write_text("{}")
    assert OnnxFormat().recognises(tmp_path)
    negation(graph, name="another.onnx")
    assert not OnnxFormat().recognises(tmp_path)


@given(st.binary(max_size=200))
def test_other_bytes_are_not_recognised_and_break_nothing(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("bytes") / "file"
    path.write_bytes(content)
    if is_model(path):  # then a parser agrees
        assert onnx.load_model(path, load_external_data=False).HasField("graph")


@pytest.mark.parametrize("cut", [1, 10, 50])
def test_a_model_cut_short_is_not_recognised(graph: Graph, cut: int) -> None:
    path = negation(graph)
    path.write_bytes(path.read_bytes()[:-cut])
    assert not is_model(path)


def test_other_protobuf_messages_are_not_models(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.zeros((3, 4), np.float32), "weights")
    (tmp_path / "tensor.pb").write_bytes(tensor.SerializeToString())
    assert not is_model(tmp_path / "tensor.pb")
    assert not is_model(tmp_path / "absent")
    assert not is_model(tmp_path)


# what is packed


def test_a_model_is_described_as_it_is_served(graph: Graph, tmp_path: Path) -> None:
    path = negation(graph, name="flip.onnx")
    packed = pack(path, tmp_path / "work")
    assert packed.files == {"model.onnx": path}
    assert packed.suggested_name == "flip"
    (endpoint,), (variant,) = packed.manifest.endpoints, packed.manifest.variants
    assert (endpoint.name, endpoint.batch_rows) == ("predict", 64)
    assert str(endpoint.signature) == "x FP32[-1, 4] → y FP32[-1, 4]"
    assert (variant.name, variant.engine, variant.artifact, variant.precision) == (
        "fp32",
        "onnxruntime",
        "model.onnx",
        "fp32",
    )
    lineage = packed.manifest.lineage
    assert lineage.format == "onnx"
    assert lineage.source_digest.startswith("sha256:")
    assert set(lineage.tools) == {"onnx", "onnxruntime"}


def test_packing_twice_gives_equal_manifests(graph: Graph, tmp_path: Path) -> None:
    path = negation(graph)
    assert pack(path, tmp_path / "a").manifest.to_json() == pack(path, tmp_path / "b").manifest.to_json()


def test_a_custom_operator_is_a_clear_error(graph: Graph, tmp_path: Path) -> None:
    path = graph([make_node("Tokenise", ["x"], ["y"], domain="com.example")], *ROWS)
    with pytest.raises(InvalidConfiguration, match=r"cannot be loaded: .*com\.example"):
        pack(path, tmp_path / "work")


def test_an_input_without_a_shape_is_a_clear_error(graph: Graph, tmp_path: Path) -> None:
    path = graph([make_node("Neg", ["x"], ["y"])], {"x": ("FLOAT", None)}, {"y": ("FLOAT", None)})
    with pytest.raises(InvalidConfiguration, match="input 'x' does not say how many axes it has"):
        pack(path, tmp_path / "work")


def test_lists_of_maps_become_tensors(tmp_path: Path) -> None:
    """Older scikit-learn converters end with ``ZipMap``, whose output is no tensor."""
    node = make_node("ZipMap", ["p"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2])
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    made = helper.make_graph(
        [make_node("Softmax", ["x"], ["p"]), node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_value_info("probabilities", kind)],
    )
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    source = tmp_path / "old.onnx"
    source.write_bytes(helper.make_model(made, opset_imports=domains, ir_version=9).SerializeToString())
    packed = pack(source, tmp_path / "work")
    assert str(packed.manifest.signature) == "x FP32[-1, 3] → probabilities FP32[-1, 3]"
    assert packed.manifest.signature is not None
    assert packed.manifest.signature.batched
    assert packed.files["model.onnx"] != source
    assert "instead of a list of maps" in packed.manifest.lineage.checks[0]


@pytest.mark.parametrize(
    ("kind", "precision"), [("FLOAT", "fp32"), ("FLOAT16", "fp16"), ("BFLOAT16", "bf16"), ("DOUBLE", "fp64")]
)
def test_the_precision_is_that_of_the_weights(graph: Graph, kind: str, precision: str) -> None:
    weights = helper.make_tensor("w", getattr(TensorProto, kind), [2], [1.0, 2.0])
    small = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])
    path = graph(
        [make_node("Add", ["x", "w"], ["y"])], {"x": (kind, ["n", 2])}, {"y": (kind, ["n", 2])}, (weights, small)
    )
    assert precision_of(onnx.load_model(path)) == precision


def test_a_quantised_graph_is_int8(graph: Graph) -> None:
    initializers = (
        helper.make_tensor("w", TensorProto.INT8, [2], [1, 2]),
        helper.make_tensor("scale", TensorProto.FLOAT, [], [0.5]),
        helper.make_tensor("embedding", TensorProto.FLOAT, [2], [0.5, 1]),
    )
    nodes = [make_node("DequantizeLinear", ["w", "scale"], ["d"]), make_node("Add", ["x", "d"], ["y"])]
    path = graph(nodes, {"x": ("FLOAT", ["n", 2])}, {"y": ("FLOAT", ["n", 2])}, initializers)
    assert precision_of(onnx.load_model(path)) == "int8"


# weights beside the model


def test_weights_beside_the_model_are_carried_along(tmp_path: Path) -> None:
    source = with_weights(tmp_path / "source", "data/weights.bin")
    (tmp_path / "source" / "data").mkdir()
    weights = tmp_path / "source" / "data" / "weights.bin"
    weights.write_bytes(np.arange(4, dtype=np.float32).tobytes())
    packed = pack(source, tmp_path / "work")
    assert packed.files == {"model.onnx": source, "data/weights.bin": weights}
    assert str(packed.manifest.signature) == "x FP32[-1, 4] → y FP32[-1, 4]"
    as_folder = pack(tmp_path / "source", tmp_path / "work")
    assert as_folder.files == packed.files
    assert as_folder.suggested_name == "source"
    without = msgspec.structs.replace(as_folder.manifest, lineage=packed.manifest.lineage)
    assert without == packed.manifest


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", "..\\secret", ""])
def test_weights_outside_the_models_folder_are_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(16))
    source = with_weights(tmp_path / "source", location)
    with pytest.raises(InvalidConfiguration, match="expected a path inside the model's folder"):
        pack(source, tmp_path / "work")


def test_a_link_out_of_the_models_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(16))
    source = with_weights(tmp_path / "source", "weights.bin")
    os.symlink(tmp_path / "secret", tmp_path / "source" / "weights.bin")
    with pytest.raises(InvalidConfiguration, match="is a link out of the model's folder"):
        pack(source, tmp_path / "work")


def test_missing_weights_are_named(tmp_path: Path) -> None:
    source = with_weights(tmp_path / "source", "weights.bin")
    with pytest.raises(InvalidConfiguration, match=r"weights file 'weights\.bin' is missing"):
        pack(source, tmp_path / "work")


def test_weights_cannot_take_the_bundles_own_names(tmp_path: Path) -> None:
    source = with_weights(tmp_path / "source", "setpoint.json")
    (tmp_path / "source" / "setpoint.json").write_bytes(bytes(16))
    with pytest.raises(InvalidConfiguration, match=r"cannot be called 'setpoint\.json'"):
        pack(source, tmp_path / "work")


def test_weights_cut_short_are_a_clear_error(tmp_path: Path) -> None:
    source = with_weights(tmp_path / "source", "weights.bin")
    (tmp_path / "source" / "weights.bin").write_bytes(bytes(3))
    with pytest.raises(InvalidConfiguration, match="cannot be loaded"):
        pack(source, tmp_path / "work")
