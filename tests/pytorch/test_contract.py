"""PyTorch's engine keeps the contract of all engines."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine_contract import EngineContract
from setpoint.core import TensorSpec

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


class Linear(EngineContract):
    engine = "torch"
    most_idle_threads = 1  # its own for backward passes

    module = torch.nn.Sequential(torch.nn.Linear(6, 3), torch.nn.Softmax(1)).eval()

    def inputs(self, rows: int) -> dict[str, np.ndarray]:
        return {"input": np.random.default_rng(rows).standard_normal((rows, 6)).astype(np.float32)}

    def expected(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return {"output": self.module(torch.from_numpy(np.array(inputs["input"]))).numpy()}

    def outputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("output", "FP32", (-1, 3)),)


class TestPrograms(Linear):
    def make(self, folder: Path) -> Path:
        shapes = ({0: torch.export.Dim.DYNAMIC},)
        exported = torch.export.export(self.module, (torch.ones(2, 6),), dynamic_shapes=shapes)
        torch.export.save(exported, str(folder / "model.pt2"))
        return folder / "model.pt2"


class TestTorchScript(Linear):
    def make(self, folder: Path) -> Path:
        torch.jit.save(torch.jit.trace(self.module, torch.ones(2, 6)), str(folder / "model.torchscript"))
        return folder / "model.torchscript"
