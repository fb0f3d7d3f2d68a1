"""Names of classes become part of the manifest, for the output that they can belong to and for no other."""

from pathlib import Path

import pytest

from setpoint.core import Endpoint, InvalidConfiguration, Lineage, ModelManifest, Signature, TensorSpec, Variant
from setpoint.formats import PackedModel, labelled

LABELS = "cat\n\nGrüner Baumpython\r\n"
X = TensorSpec("x", "FP32", (-1, 4))


def packed(*outputs: TensorSpec, tensors: bool = True) -> PackedModel:
    signature = Signature((X,), outputs, True) if tensors else None
    endpoint = Endpoint("infer", (), {}, signature=signature)
    variant = Variant("fp32", "onnxruntime", "model.onnx", precision="fp32")
    return PackedModel(ModelManifest((endpoint,), (variant,), Lineage("onnx", "sha256:0")), {}, "m")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_bytes(LABELS.encode())
    return path


def scores(name: str = "scores", width: int = 3) -> TensorSpec:
    return TensorSpec(name, "FP32", (-1, width))


@pytest.mark.parametrize(
    "outputs",
    [
        (scores(),),
        (TensorSpec("label", "BYTES", (-1,)), scores()),
        (scores("other", 4), scores()),
        (scores(width=-1), TensorSpec("label", "BYTES", (-1, 3))),
        (scores("free", -1), scores()),
    ],
)
def test_labels_belong_to_the_one_output_with_as_many_classes(outputs: tuple[TensorSpec, ...], file: Path) -> None:
    manifest = labelled(packed(*outputs), file).manifest
    assert manifest.labels_by_output == {"scores": ("cat", "", "Grüner Baumpython")}
    assert ModelManifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [((scores(width=4),), "no output"), ((scores("a"), scores("b")), "several"), ((), "no output")],
)
def test_labels_that_fit_no_output_or_several_are_refused(
    outputs: tuple[TensorSpec, ...], expected: str, file: Path
) -> None:
    with pytest.raises(InvalidConfiguration, match=f"3 labels.*{expected}"):
        labelled(packed(*outputs), file)


def test_a_model_of_more_than_tensors_has_no_classes(file: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="tensors"):
        labelled(packed(tensors=False), file)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\n \n", "no labels"),
        (b"\xff\n", "UTF-8"),
        (b"x" * (5 << 20), "more than"),
        (b"x" + "ü".encode() * (3 << 20), "more than"),  # the limit falls within a character
    ],
)
def test_a_file_that_holds_no_labels_is_refused(content: bytes, expected: str, file: Path) -> None:
    file.write_bytes(content)
    with pytest.raises(InvalidConfiguration, match=expected):
        labelled(packed(scores()), file)


def test_a_bundle_without_labels_does_not_mention_them() -> None:
    assert b"labels" not in packed(scores()).manifest.to_json()
