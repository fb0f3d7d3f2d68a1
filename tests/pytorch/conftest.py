"""PyTorch's formats and engine. They need torch, which no lock holds: ``make test-torch`` makes its environment."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from setpoint.engines import EngineOptions, Executable, load_executable
from setpoint.formats import PackOptions, recognise
from setpoint.formats.base import PackedModel

collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py"]

NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(1, 4, 3, padding=1)
        self.linear = torch.nn.Linear(4 * 64, 10)

    def forward(self, image):
        hidden = torch.relu(self.convolution(image)).flatten(1)
        return {"logits": self.linear(hidden), "hidden": hidden}

def build_model():
    return Net()

def example_inputs():
    return torch.randn(1, 1, 8, 8)
"""


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., PackedModel]:
    def packed(source: Path, trust: bool = False, sample: dict | None = None) -> PackedModel:
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        rows = None
        if sample is not None:
            rows = tmp_path / "rows.npz"
            np.savez(rows, **sample)
        return recognise(source).pack(source, PackOptions(trust=trust, sample=rows), work)

    return packed


@pytest.fixture
def load(tmp_path: Path) -> Callable[[PackedModel], Executable]:
    def loaded(packed: PackedModel) -> Executable:
        folder = tmp_path / "bundle"
        folder.mkdir(exist_ok=True)
        for name, file in packed.files.items():
            (folder / name).write_bytes(file.read_bytes())
        return load_executable(packed.manifest.variants[0], folder, EngineOptions())

    return loaded


@pytest.fixture
def net_file(tmp_path: Path) -> Path:
    """A Python file that builds a small convolutional net."""
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


@pytest.fixture
def load_bundle(tmp_path: Path):
    """Load a bundle whose files lie in folders; closed at the end."""
    loaded = []

    def load(packed: PackedModel) -> Executable:
        folder = tmp_path / "bundle"
        for name, file in packed.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(file.read_bytes())
        loaded.append(load_executable(packed.manifest.variants[0], folder, EngineOptions()))
        return loaded[-1]

    yield load
    for executable in loaded:
        executable.close()
