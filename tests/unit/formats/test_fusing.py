"""A pipeline's arithmetic inside its graph: the same answers, or it is not used; and only where it is quicker."""

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from setpoint.core import InvalidConfiguration
from setpoint.engines import EngineOptions, load_executable, load_onnx
from setpoint.formats import PackOptions, fused, fusing, recognise
from setpoint.formats.base import PackedModel
from setpoint.formats.choice import Comparison, Timed

LABELS = [f"label {number}" for number in range(6)]


def folder_of(
    tmp_path: Path, *, layout: str = "nchw", kind: int = TensorProto.FLOAT, opset: int = 18, **said: Any
) -> Path:
    """A random linear classifier of 12x10 pixels in three channels."""
    folder = tmp_path / "colours"
    folder.mkdir()
    dtype = np.float16 if kind == TensorProto.FLOAT16 else np.float32
    weights = np.random.default_rng(3).normal(0, 0.05, (12 * 10 * 3, len(LABELS))).astype(dtype)
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("Neg", ["logits"], ["unread"]),
    ]
    shape = ["rows", 3, 12, 10] if layout == "nchw" else ["rows", 12, 10, 3]
    takes = [helper.make_tensor_value_info("pixels", kind, shape)]
    gives = [helper.make_tensor_value_info(name, kind, ["rows", len(LABELS)]) for name in ("unread", "logits")]
    graph = helper.make_graph(nodes, "g", takes, gives, [onnx.numpy_helper.from_array(weights, "weights")])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), folder / "model.onnx"
    )
    image = {"resize": [12, 10], "layout": layout, **said.pop("image", {})}
    declared = {"task": "image-classification", "image": image, "output": "logits", "labels": LABELS, "top_k": 3} | said
    (folder / "pipeline.json").write_text(json.dumps(declared))
    return folder


def packed_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path, takes: float = 0.5
) -> tuple[PackedModel, str]:
    """The bundle, made where a fused pipeline takes so much of the declared one's time; and what is told of fusing."""

    def measured(first: Any, second: Any, sizes: Any) -> Comparison:
        for rows in sizes:
            assert first(rows)[0].ok
            assert second(rows)[0].ok
        return Comparison(tuple(Timed(rows, 1.0, takes, takes) for rows in sizes))

    monkeypatch.setattr(fusing, "compare_speed", measured)
    workdir = tmp_path / f"work{takes}"
    workdir.mkdir()
    packed = recognise(folder).pack(folder, PackOptions(), workdir)
    (told,) = [check for check in packed.manifest.lineage.checks if "fused" in check]
    return packed, told


def answers(packed: PackedModel, place: Path, rows: list[Any], what: str = "images") -> list[Any]:
    place.mkdir()
    for path, file in packed.files.items():
        (place / path).symlink_to(file.resolve())
    executable = load_executable(packed.manifest.variants[0], place, EngineOptions())
    (answer,) = executable.call("classify", [msgspec.json.encode({what: rows})])  # type: ignore[attr-defined]
    executable.close()
    assert answer.ok, answer.message
    found: list[Any] = msgspec.json.decode(answer.body)
    return found


IMAGES = fusing.made_up_rows(
    msgspec.convert({"task": "x", "image": {"resize": [12, 10]}}, fusing.Pipeline)  # so many sizes, one batch
)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize(
    "said",
    [
        {"image": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.1]}},
        {"image": {"mean": [0.5], "std": [0.25]}, "activation": "sigmoid", "top_k": 0},
        {"image": {"scale": 1.0}, "activation": "none", "top_k": 50},
    ],
    ids=["softmax", "sigmoid", "none"],
)
def test_it_answers_as_the_declared_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, layout: str, channels: str, said: dict[str, Any]
) -> None:
    image = {**said["image"], "channels": channels}
    folder = folder_of(tmp_path, layout=layout, **said | {"image": image})
    quick, told = packed_where(monkeypatch, tmp_path, folder)
    assert told.startswith(
        "fused with its graph: the same answers to 12 rows, and quicker: measured with 1 thread: 1 row"
    )
    graph = load_onnx(quick.files["model.onnx"], EngineOptions())
    assert [(spec.name, spec.datatype) for spec in graph.inputs] == [(fused.PIXELS, "UINT8")]
    graph.close()
    slow, told = packed_where(monkeypatch, tmp_path, folder, takes=0.97)
    assert told.startswith("not fused with its graph, which answers alike on 12 rows and is hardly quicker: measured")
    assert slow.files["model.onnx"] == folder / "model.onnx"
    ours, theirs = (answers(one, tmp_path / name, IMAGES) for one, name in ((quick, "quick"), (slow, "slow")))
    assert [len(answer["scores"]) for answer in ours] == [len(answer["scores"]) for answer in theirs]
    assert [answer["label"] for answer in ours] == [answer["label"] for answer in theirs]
    assert len({answer["label"] for answer in theirs}) > 1, "rows that tell"
    np.testing.assert_allclose([a["score"] for a in ours], [a["score"] for a in theirs], rtol=1e-4, atol=1e-6)


def test_half_precision_is_fused_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, kind=TensorProto.FLOAT16, image={"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.1]})
    assert packed_where(monkeypatch, tmp_path, folder)[1].startswith("fused with its graph")


def wrong_scale(model: onnx.ModelProto) -> None:
    factor = next(tensor for tensor in model.graph.initializer if tensor.dims == [1, 3, 1, 1])
    factor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(factor) * np.float32(1.02), factor.name))


def wrong_order(model: onnx.ModelProto) -> None:
    (gather,) = [node for node in model.graph.node if node.op_type == "Gather"]
    order = next(tensor for tensor in model.graph.initializer if tensor.name == gather.input[1])
    order.CopyFrom(onnx.numpy_helper.from_array(np.array([0, 1, 2], np.int64), order.name))


def wrong_sides(model: onnx.ModelProto) -> None:
    (turned,) = [node for node in model.graph.node if node.op_type == "Transpose"]
    turned.attribute[0].ints[:] = [0, 3, 2, 1]


def wrong_scores(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "Softmax":
            node.op_type = "Sigmoid"
            del node.attribute[:]


def worst_first(model: onnx.ModelProto) -> None:
    (best,) = [node for node in model.graph.node if node.op_type == "TopK"]
    next(setting for setting in best.attribute if setting.name == "largest").i = 0


@pytest.mark.parametrize("mistake", [wrong_scale, wrong_order, wrong_sides, wrong_scores, worst_first])
def test_a_fused_graph_that_is_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mistake: Any) -> None:
    right = fused.fused

    def wrong(pipeline: Any, graph: Path) -> Any:
        model = right(pipeline, graph)
        mistake(model)
        return model

    monkeypatch.setattr(fused, "fused", wrong)
    folder = folder_of(tmp_path, image={"channels": "bgr", "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.1]}, top_k=2)
    packed, told = packed_where(monkeypatch, tmp_path, folder, takes=0.1)
    assert told.startswith("not fused with its graph: ")
    assert packed.files["model.onnx"] == folder / "model.onnx"
    assert len(answers(packed, tmp_path / "bundle", IMAGES)) == len(IMAGES)


def test_what_cannot_be_fused_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    packed, told = packed_where(monkeypatch, tmp_path, folder_of(tmp_path, opset=9))
    assert told == "not fused with its graph: its operators are of version 9, before 11"
    assert "pipeline.json" in packed.files


def test_fused_is_not_for_users_to_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="fused is what packing finds out"):
        packed_where(monkeypatch, tmp_path, folder_of(tmp_path, fused=True))


def test_made_up_images_are_of_many_sizes() -> None:
    assert len({len(base64.b64decode(row)) for row in IMAGES}) == len(IMAGES)
