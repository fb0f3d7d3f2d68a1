"""A registry of its own for each test, and a way to run the command line in this process."""

from collections.abc import Callable
from pathlib import Path

import pytest

from setpoint.cli.main import main
from setpoint.core import Endpoint, Lineage, ModelManifest, Parameter, Signature, TensorSpec, Variant
from setpoint.formats import PackedModel
from setpoint.registry import Bundle, Registry

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("SETPOINT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SETPOINT_TRACEBACK", raising=False)
    return Registry.default()


@pytest.fixture
def run(registry: Registry, capsys: pytest.CaptureFixture[str]) -> Run:
    def run_it(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_it


@pytest.fixture
def add(registry: Registry, tmp_path: Path) -> Callable[[str, bytes], Bundle]:
    """Puts a bundle of the given content into the registry. Nothing runs it, so the content need not be a model."""

    def add_it(name: str, content: bytes) -> Bundle:
        file = tmp_path / "model.onnx"
        file.write_bytes(content)
        signature = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("label", "INT64", (-1,)),), batched=True)
        manifest = ModelManifest(
            endpoints=(
                Endpoint("predict", (Parameter("x", {"type": "array"}),), {"type": "object"}, 64, signature=signature),
            ),
            variants=(Variant("fp32", "onnxruntime", "model.onnx"),),
            lineage=Lineage("onnx", "sha256:" + "0" * 64, {"onnx": "1.0"}, ("rows together are the rows alone",)),
        )
        return registry.add(PackedModel(manifest, {"model.onnx": file}, name), name)[0]

    return add_it
