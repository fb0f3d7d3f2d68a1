"""A registry in a temporary folder, and models to put into it that need no packing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from setpoint.core import Endpoint, Lineage, ModelManifest, Variant
from setpoint.formats import PackedModel
from setpoint.registry import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def packed(tmp_path: Path) -> Callable[..., PackedModel]:
    """``packed(b"weights", **{"data/labels.json": b"[]"})`` is a model of those files."""

    def make(weights: bytes = b"weights", **others: bytes) -> PackedModel:
        files = {}
        for number, (path, content) in enumerate({"model.onnx": weights, **others}.items()):
            files[path] = tmp_path / f"source-{number}"
            files[path].write_bytes(content)
        manifest = ModelManifest(
            (Endpoint("predict", (), {"type": "object"}),),
            (Variant("fp32", "onnxruntime", "model.onnx"),),
            Lineage("onnx", "sha256:0"),
        )
        return PackedModel(manifest, files, "source")

    return make
