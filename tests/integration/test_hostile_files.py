"""Files made to hurt whoever opens them: each is refused with a sentence, nothing runs, and nothing is left behind."""

import json
import lzma
import os
import pickle
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import onnx
import pytest
import skops.io
import xgboost
from onnx import TensorProto, helper

from digits_files import LEARNT, digits_graph, openvino_file
from setpoint.core import ConfigurationError, SetpointError
from setpoint.formats import PackOptions
from setpoint.registry import Registry, pack_source

OPSETS = [helper.make_opsetid("", 18)]
LINES, CHARACTERS = 2, 700


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def model(nodes: list, initializers: list = (), shape: list | None = None) -> onnx.ModelProto:
    takes = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape or ["n", 2])]
    gives = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", takes, gives, list(initializers))
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=9)


def outside_weights(folder: Path, mark: Path) -> Path:
    (folder.parent / "secret").write_bytes(bytes(8))
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [2], np.zeros(2, np.float32))
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    made = model([helper.make_node("Add", ["x", "w"], ["y"])], [tensor])
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    return folder / "model.onnx"


def linked_weights(folder: Path, mark: Path) -> Path:
    path = outside_weights(folder, mark)
    made = onnx.load(path, load_external_data=False)
    made.graph.initializer[0].external_data[0].value = "weights.bin"
    path.write_bytes(made.SerializeToString())
    (folder / "weights.bin").symlink_to("/etc/passwd")
    return path


def endless_allocation(folder: Path, mark: Path) -> Path:
    shape = onnx.numpy_helper.from_array(np.array([1 << 21, 1 << 20], np.int64), "shape")
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["big"]), helper.make_node("ReduceSum", ["big"], ["s"])]
    made = model([*nodes, helper.make_node("Add", ["x", "s"], ["y"])], [shape])
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    return folder / "model.onnx"


def absurd_initializer(folder: Path, mark: Path) -> Path:
    made = model([helper.make_node("Add", ["x", "w"], ["y"])], [helper.make_tensor("w", TensorProto.FLOAT, [1], [0.0])])
    made.graph.initializer[0].dims[:] = [1 << 40, 1 << 20]
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    return folder / "model.onnx"


def absurd_input(folder: Path, mark: Path) -> Path:
    made = model([helper.make_node("Neg", ["x"], ["y"])], shape=[1 << 40, 1 << 20])
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    return folder / "model.onnx"


def plain_pickle(folder: Path, mark: Path) -> Path:
    (folder / "model.pkl").write_bytes(pickle.dumps(Payload(mark)))
    return folder / "model.pkl"


def compressed_pickle(folder: Path, mark: Path) -> Path:
    joblib.dump(Payload(mark), folder / "model.joblib", compress=("gzip", 3))
    return folder / "model.joblib"


def skops_with_a_payload(folder: Path, mark: Path) -> Path:
    schema = {
        "__class__": "system",
        "__module__": "os",
        "__loader__": "FunctionNode",
        "content": {"module_path": "os", "function": "system"},
        "protocol": 2,
    }
    with zipfile.ZipFile(folder / "model.skops", "w") as archive:
        archive.writestr("schema.json", json.dumps(schema))
    return folder / "model.skops"


def zip_bomb(folder: Path, mark: Path) -> Path:
    with zipfile.ZipFile(folder / "model.skops", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b'{"__loader__": "' + bytes(200 << 20) + b'"}')
    return folder / "model.skops"


def endless_checkpoint(folder: Path, mark: Path) -> Path:
    with zipfile.ZipFile(folder / "net.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/archive_format", "pt2")
        archive.writestr("net/models/model.json", b" " * (300 << 20))
    return folder / "net.pt2"


def huge_header(folder: Path, mark: Path) -> Path:
    (folder / "net.safetensors").write_bytes(struct.pack("<Q", 1 << 62) + b'{"w":{"dtype":"F32"}}')
    return folder / "net.safetensors"


def deep_json(folder: Path, mark: Path) -> Path:
    (folder / "model.json").write_text('{"learner": {"x": ' + "[" * 200_000)
    return folder / "model.json"


def booster_with_absurd_nodes(folder: Path, mark: Path) -> Path:
    text = "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=2000000000\n"
    text += "objective=regression\nfeature_names=a\nfeature_infos=none\ntree_sizes=90\n\n"
    text += "Tree=0\nnum_leaves=2000000000\nnum_cat=0\nsplit_feature=0\n\nend of trees\n"
    (folder / "model.txt").write_text(text)
    return folder / "model.txt"


def keras_with_a_lambda(folder: Path, mark: Path) -> Path:
    with zipfile.ZipFile(folder / "model.keras", "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.9.0"}))
        archive.writestr("config.json", json.dumps({"class_name": "Lambda", "config": {"function": "os.system"}}))
        archive.writestr("model.weights.h5", b"")
    return folder / "model.keras"


def catboost_noise(folder: Path, mark: Path) -> Path:
    (folder / "model.cbm").write_bytes(b"CBM1" + struct.pack("<I", 0xFFFFFFF0) + os.urandom(4096))
    return folder / "model.cbm"


def tflite_noise(folder: Path, mark: Path) -> Path:
    (folder / "model.tflite").write_bytes(struct.pack("<I", 0x7FFFFFF0) + b"TFL3" + os.urandom(4096))
    return folder / "model.tflite"


def ort_noise(folder: Path, mark: Path) -> Path:
    (folder / "model.ort").write_bytes(struct.pack("<I", 0x7FFFFFF0) + b"ORTM" + os.urandom(4096))
    return folder / "model.ort"


def entities(folder: Path, mark: Path) -> Path:
    (folder / "model.xml").write_text(
        '<?xml version="1.0"?>\n<net name="x" version="11">\n<!DOCTYPE net [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    )
    return folder / "model.xml"


def escaping_pipeline(folder: Path, mark: Path) -> Path:
    declared = {"task": "embedding", "model": "../../secret", "text": {}, "dimensions": 3}
    (folder / "pipeline.json").write_text(json.dumps(declared))
    return folder


def folder_with_code(folder: Path, mark: Path) -> Path:
    config = {"model_type": "bert", "architectures": ["BertModel"], "auto_map": {"AutoModel": "code.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"import os\nos.system('touch {mark}')\n")
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    return folder


def language_model(folder: Path, mark: Path) -> Path:
    (folder / "model.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1 << 60))
    return folder / "model.gguf"


def half(path: Path) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def half_an_onnx_file(folder: Path, mark: Path) -> Path:
    onnx.save(digits_graph(), folder / "model.onnx")
    return half(folder / "model.onnx")


def half_of_the_weights_outside(folder: Path, mark: Path) -> Path:
    onnx.save(digits_graph(), folder / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    half(folder / "w.bin")
    return folder / "model.onnx"


def half_of_openvinos_weights(folder: Path, mark: Path) -> Path:
    path = openvino_file(folder)
    half(path.with_suffix(".bin"))
    return path


def half_a_skops_file(folder: Path, mark: Path) -> Path:
    skops.io.dump(LEARNT, folder / "model.skops")
    return half(folder / "model.skops")


def half_a_joblib_file(folder: Path, mark: Path) -> Path:
    joblib.dump(LEARNT, folder / "model.joblib", compress=("gzip", 3))
    return half(folder / "model.joblib")


def half_a_keras_file(folder: Path, mark: Path) -> Path:
    return half(keras_with_a_lambda(folder, mark))


def half_a_pipeline(folder: Path, mark: Path) -> Path:
    half(escaping_pipeline(folder, mark) / "pipeline.json")
    return folder


def half_a_hugging_face_folder(folder: Path, mark: Path) -> Path:
    half(folder_with_code(folder, mark) / "config.json")
    return folder


def keras_bomb(folder: Path, mark: Path) -> Path:
    with zipfile.ZipFile(folder / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", b'{"keras_version": "' + b"3" * (200 << 20) + b'"}')
        archive.writestr("config.json", b"{}")
        archive.writestr("model.weights.h5", b"")
    return folder / "model.keras"


def packed_with_a_dictionary_of_4_gib(folder: Path, mark: Path) -> Path:
    """.xz states how much memory its reader has to take."""
    packed = bytearray(lzma.compress(pickle.dumps(Payload(mark))))
    size = (packed[12] + 1) * 4
    assert packed[14:16] == b"\x21\x01", "LZMA2 and its one property"
    packed[16] = 40
    packed[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(packed[12 : 12 + size - 4]))
    (folder / "model.joblib").write_bytes(packed)
    return folder / "model.joblib"


def openvino_with_an_absurd_shape(folder: Path, mark: Path) -> Path:
    port = "<port id='0' precision='FP32'><dim>1099511627776</dim><dim>1048576</dim></port>"
    (folder / "model.xml").write_text(
        '<?xml version="1.0"?>\n<net name="x" version="11"><layers>'
        "<layer id='0' name='x' type='Parameter' version='opset1'>"
        "<data element_type='f32' shape='1099511627776,1048576'/>"
        f"<output>{port}</output></layer>"
        "<layer id='1' name='y' type='Result' version='opset1'>"
        f"<input>{port}</input></layer></layers>"
        "<edges><edge from-layer='0' from-port='0' to-layer='1' to-port='0'/></edges></net>"
    )
    return folder / "model.xml"


def xgboost_with_absurd_columns(folder: Path, mark: Path) -> Path:
    learnt = xgboost.XGBClassifier(n_estimators=2).fit([[0.0], [1.0], [2.0], [3.0]], [0, 1, 0, 1])
    learnt.save_model(folder / "model.json")
    model = json.loads((folder / "model.json").read_text())
    model["learner"]["learner_model_param"]["num_feature"] = "2000000000"
    (folder / "model.json").write_text(json.dumps(model))
    return folder / "model.json"


def fused_pipeline_of_somebody(folder: Path, mark: Path) -> Path:
    onnx.save(digits_graph(), folder / "model.onnx")
    image = {"resize": [8192, 8192]}
    declared = {"task": "image-classification", "image": image, "labels": ["a"], "fused": True}
    (folder / "pipeline.json").write_text(json.dumps(declared))
    return folder


HOSTILE: list[Callable[[Path, Path], Path]] = [
    absurd_initializer, absurd_input, booster_with_absurd_nodes, catboost_noise, compressed_pickle, deep_json,
    endless_allocation, endless_checkpoint, entities, escaping_pipeline, folder_with_code, huge_header,
    keras_with_a_lambda, language_model, linked_weights, ort_noise, outside_weights, plain_pickle,
    skops_with_a_payload, tflite_noise, zip_bomb, fused_pipeline_of_somebody, half_a_hugging_face_folder,
    half_a_joblib_file, half_a_keras_file, half_a_pipeline, half_a_skops_file, half_an_onnx_file,
    half_of_openvinos_weights, half_of_the_weights_outside, keras_bomb, openvino_with_an_absurd_shape,
    packed_with_a_dictionary_of_4_gib, xgboost_with_absurd_columns,
]  # fmt: skip


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_it_is_refused_with_a_sentence(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch, folder = tmp_path / "scratch", tmp_path / "given" / "model"
    scratch.mkdir()
    folder.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setattr("setpoint.formats.isolated.command", _with_little_memory)
    source = make(folder, tmp_path / "ran")
    before = {path: path.lstat().st_mtime_ns for path in sorted(folder.rglob("*"))}
    registry = Registry(tmp_path / "home")
    with pytest.raises(SetpointError) as caught:
        pack_source(source, registry=registry, options=PackOptions())
    said = str(caught.value)
    assert isinstance(caught.value, ConfigurationError), said
    assert len(said.splitlines()) <= LINES, said
    assert len(said) <= CHARACTERS, said
    assert "Traceback" not in said
    assert not (tmp_path / "ran").exists(), "it ran"
    assert list(scratch.iterdir()) == []
    assert {path: path.lstat().st_mtime_ns for path in sorted(folder.rglob("*"))} == before
    assert registry.list() == []


def _with_little_memory(source: Path, trust: bool) -> list[str]:
    from setpoint.formats import confined

    made = confined.command(source, trust)
    return [*made[:-2], str(2 << 30), made[-1]]
