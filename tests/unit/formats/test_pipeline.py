"""A folder with pipeline.json: what is declared goes before and after the graph; nobody writes Python."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer, models, pre_tokenizers

from setpoint.authoring import Image as EncodedImage
from setpoint.authoring import ImageSteps, pixels
from setpoint.core import InvalidConfiguration
from setpoint.engines import EngineOptions, load_executable
from setpoint.formats import PackOptions, recognise
from setpoint.formats.base import PackedModel

DIGITS, NUMERALS = load_digits(return_X_y=True)
LEARNT = LogisticRegression(max_iter=300).fit(DIGITS / 16, NUMERALS)
WORDS = {"[PAD]": 0, "[UNK]": 1, "good": 2, "bad": 3, "day": 4}


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def save(graph: onnx.GraphProto, folder: Path) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "model.onnx")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Handwritten digits: 8x8 grey images, enlarged by whoever sends them."""
    folder = tmp_path / "digits"
    folder.mkdir()
    weights = onnx.numpy_helper.from_array(LEARNT.coef_.T.astype(np.float32), "weights")
    offset = onnx.numpy_helper.from_array(LEARNT.intercept_.astype(np.float32), "offset")
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "weights", "offset"], ["scores"]),
    ]
    takes = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["rows", 1, 8, 8])]
    gives = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", 10])]
    graph = helper.make_graph(nodes, "digits", takes, gives, [weights, offset])
    save(graph, folder)
    declared = {
        "task": "image-classification",
        "image": {"resize": [8, 8], "resample": "box", "channels": "grey"},
        "labels": [str(numeral) for numeral in range(10)],
        "top_k": 2,
    }
    (folder / "pipeline.json").write_text(json.dumps(declared))
    return folder


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Bag of two words: how often good, how often bad."""
    folder = tmp_path / "mood"
    folder.mkdir()
    table = np.zeros((len(WORDS), 2), np.float32)
    table[WORDS["good"], 1] = table[WORDS["bad"], 0] = 1
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["votes"]),
        helper.make_node("ReduceSum", ["votes", "axes"], ["logits"], keepdims=0),
    ]
    axes = onnx.numpy_helper.from_array(np.array([1], np.int64), "axes")
    takes = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", "tokens"])]
    gives = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 2])]
    graph = helper.make_graph(nodes, "mood", takes, gives, [onnx.numpy_helper.from_array(table, "table"), axes])
    save(graph, folder)
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    declared = {"task": "text-classification", "text": {"max_tokens": 4}, "labels": ["bad", "good"]}
    (folder / "pipeline.json").write_text(json.dumps(declared))
    return folder


@pytest.fixture
def served(tmp_path: Path) -> Callable[[Path], tuple[PackedModel, object]]:
    loaded = []

    def serve(source: Path):
        (tmp_path / "work").mkdir()
        packed = recognise(source).pack(source, PackOptions(), tmp_path / "work")
        for name, file in packed.files.items():
            (tmp_path / "bundle" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "bundle" / name).write_bytes(file.read_bytes())
        loaded.append(load_executable(packed.manifest.variants[0], tmp_path / "bundle", EngineOptions()))
        return packed, loaded[-1]

    yield serve
    for executable in loaded:
        executable.close()


def test_images_are_prepared_and_labelled(images: Path, served) -> None:
    packed, executable = served(images)
    (endpoint,) = packed.manifest.endpoints
    assert (packed.manifest.lineage.format, endpoint.name, endpoint.body) == ("pipeline", "classify", "bytes")
    digits = DIGITS[:30].reshape(-1, 8, 8)
    right = 0
    for digit, numeral in zip(digits, NUMERALS[:30], strict=True):
        large = np.kron(np.minimum(digit * 16, 255), np.ones((5, 5))).astype(np.uint8)
        (answer,) = executable.call("classify", [png(large)], raw=True)
        (given,) = msgspec.json.decode(answer.body)
        assert [one["score"] for one in given["scores"]] == sorted(
            (one["score"] for one in given["scores"]), reverse=True
        )
        assert len(given["scores"]) == 2
        right += given["label"] == str(numeral)
    assert right >= 28


def test_texts_are_tokenised_cut_and_padded(texts: Path, served) -> None:
    _, executable = served(texts)
    body = {"texts": ["good good day", "bad", "day day day day good good good", ""]}
    (answer,) = executable.call("classify", [msgspec.json.encode(body)])
    labels = [(one["label"], round(one["score"], 4)) for one in msgspec.json.decode(answer.body)]
    assert labels == [("good", 0.8808), ("bad", 0.7311), ("bad", 0.5), ("bad", 0.5)]  # the third was cut before "good"


def test_a_bad_image_is_its_senders_mistake_alone(images: Path, served) -> None:
    _, executable = served(images)
    good = png(np.zeros((9, 9), np.uint8))
    answers = executable.call("classify", [good, b"GIF89a...", good[:40], good], raw=True)
    assert [answer.ok for answer in answers] == [True, False, False, True]
    assert "expected a JPEG, PNG or WebP image" in answers[1].message
    assert {answer.kind for answer in answers[1:3]} == {"invalid_request"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"task": "divination"}, "task 'divination': expected one of text-classification"),
        ({"labels": []}, "a classifier needs labels"),
        ({"labels": ["one"]}, "the graph gives 10 scores for 1 labels"),
        ({"image": {"resize": [8, 8, 8]}}, "resize is one or two lengths"),
        ({"image": {"resize": [8, 100000]}}, "resize is one or two lengths of 1 to 8192"),
        ({"image": {"resize": [9, 9], "channels": "grey"}}, "the pipeline gives no answer"),
        ({"image": {"resise": [8, 8]}}, "unknown field `resise`"),
        ({"model": "../model.onnx"}, "lies outside its folder"),
        ({"model": "other.onnx"}, "there is no 'other.onnx' beside it"),
        ({"model": "pipeline.json"}, "is not an ONNX model"),
        ({"output": "nothing"}, "the graph gives scores and no 'nothing'"),
    ],
)
def test_what_does_not_go_together_is_said_when_packing(images: Path, served, settings: dict, said: str) -> None:
    declared = json.loads((images / "pipeline.json").read_text()) | settings
    (images / "pipeline.json").write_text(json.dumps(declared))
    with pytest.raises(InvalidConfiguration, match=said):
        served(images)


@pytest.mark.parametrize(
    ("steps", "shape"),
    [
        (ImageSteps(resize=(6, 4)), (1, 3, 6, 4)),
        (ImageSteps(resize=(10,)), (1, 3, 10, 20)),
        (ImageSteps(resize=(10,), crop=(8, 8)), (1, 3, 8, 8)),
        (ImageSteps(crop=(30, 60)), (1, 3, 30, 60)),
        (ImageSteps(layout="nhwc"), (1, 20, 40, 3)),
        (ImageSteps(channels="grey"), (1, 1, 20, 40)),
    ],
)
def test_shapes_of_prepared_images(steps: ImageSteps, shape: tuple[int, ...]) -> None:
    assert pixels([EncodedImage(png(np.zeros((20, 40, 3), np.uint8)))], steps).shape == shape


def test_channel_order_scale_mean_and_deviation() -> None:
    picture = EncodedImage(png(np.full((2, 2, 3), (255, 0, 51), np.uint8)))
    steps = ImageSteps(channels="bgr", mean=(0.2, 0.0, 0.5), std=(0.5, 1.0, 0.25))
    np.testing.assert_allclose(pixels([picture], steps)[0, :, 0, 0], [0.0, 0.0, 2.0], atol=1e-6)
