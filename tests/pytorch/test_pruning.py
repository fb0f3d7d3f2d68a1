"""A module that was exported is pruned and trained as the graph that is served."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import torch

from setpoint.engines import EngineOptions, load_onnx
from setpoint.formats.base import PackedModel
from setpoint.machine import read_machine
from setpoint.optimize.makers import MakerJob
from setpoint.optimize.makers.pruned import Pruning
from setpoint.optimize.makers.torch_graph import TorchGraph
from setpoint.optimize.makers.tuned import KEPT
from setpoint.optimize.making import Product, Refused, make

NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.features = torch.nn.Sequential(
            torch.nn.Conv2d(1, 32, 3, padding=1), torch.nn.BatchNorm2d(32), torch.nn.ReLU(), torch.nn.MaxPool2d(2)
        )
        self.head = torch.nn.Sequential(torch.nn.Linear(32 * 16, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))

    def forward(self, image):
        return torch.softmax(4 * self.head(self.features(image).flatten(1)), dim=1)

def build_model():
    return Net().eval()

def example_inputs():
    return torch.rand(2, 1, 8, 8)
"""


def exported(pack: Callable[..., PackedModel], tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    packed = pack(tmp_path / "net.py", trust=True)
    folder = tmp_path / "bundle"
    folder.mkdir()
    for path, source in packed.files.items():
        (folder / path).write_bytes(source.read_bytes())
    return folder / packed.manifest.variants[0].artifact


def rows(count: int) -> np.ndarray:
    """Blobs of light, of which 8 x 8 pixels show some."""
    random = np.random.default_rng(3)
    coarse = random.random((count, 1, 4, 4)).repeat(2, axis=2).repeat(2, axis=3)
    return (coarse + 0.1 * random.random((count, 1, 8, 8))).astype(np.float32)


def job_on(model: Path, tmp_path: Path, name: str) -> MakerJob:
    calibration = tmp_path / "calibration.npz"
    np.savez(calibration, **{onnx.load(model).graph.input[0].name: rows(200)})
    cpu = read_machine().cpu
    return MakerJob(model, tmp_path / name, calibration, True, True, cpu.architecture, cpu.features, 1, 90.0)


def ask(model: Path, asked: np.ndarray) -> np.ndarray:
    executable = load_onnx(model, EngineOptions())
    return next(iter(executable.run({onnx.load(model).graph.input[0].name: asked}).values()))


def test_the_graph_as_pytorch_runs_it_answers_as_the_engine_does(pack, tmp_path: Path) -> None:
    path = exported(pack, tmp_path)
    model = onnx.load(path)
    found = TorchGraph(model).run({model.graph.input[0].name: torch.from_numpy(rows(5))})
    np.testing.assert_allclose(found.detach().numpy(), ask(path, rows(5)), rtol=1e-4, atol=1e-6)


def test_training_brings_a_pruned_module_nearer_to_the_original(pack, tmp_path: Path) -> None:
    path = exported(pack, tmp_path)
    job = job_on(path, tmp_path, "pruned")
    job.workdir.mkdir()
    _, untrained, kept = Pruning(job).by_share(KEPT)[-1]
    onnx.save(untrained, tmp_path / "untrained.onnx")
    tuned = make("pruned-tuned", job_on(path, tmp_path, "tuned"))
    assert isinstance(tuned, Product), tuned
    trained = tuned.made[-1]
    assert kept in trained.note, "the same channels"
    unseen = rows(500)[200:]
    expected = ask(path, unseen)
    before, after = (
        float(np.linalg.norm(ask(each, unseen) - expected)) for each in (tmp_path / "untrained.onnx", trained.artifact)
    )
    assert after < 0.7 * before
    assert trained.artifact.stat().st_size < 0.5 * path.stat().st_size


def test_an_operator_that_is_not_trained_is_named(tmp_path: Path) -> None:
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 64]) for name in ("x", "y")]
    random = np.random.default_rng(1)
    weights = {"w1": random.standard_normal((64, 32)) @ np.ones((32, 64)), "w2": random.standard_normal((64, 64))}
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w1"], ["h"]),
        onnx.helper.make_node("Softplus", ["h"], ["s"]),
        onnx.helper.make_node("MatMul", ["s", "w2"], ["y"]),
    ]
    tensors = [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    graph = onnx.helper.make_graph(nodes, "g", value[:1], value[1:], tensors)
    path = tmp_path / "model.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    calibration = tmp_path / "rows.npz"
    np.savez(calibration, x=random.random((200, 64)).astype(np.float32))
    job = msgspec.structs.replace(job_on(path, tmp_path, "refused"), calibration=calibration)
    outcome = make("pruned-tuned", job)
    assert outcome == Refused("the graph has operators that cannot be trained here: Softplus")
