"""Python files that build a module, with weights beside them; weights alone."""

import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from setpoint.core import InvalidConfiguration, UnknownFormat
from setpoint.formats import recognise


def module_of(net_file: Path) -> torch.nn.Module:
    names: dict = {}
    exec(net_file.read_text(), names)
    torch.manual_seed(7)
    return names["build_model"]().eval()


def check_answers(executable, module: torch.nn.Module) -> None:
    images = np.random.default_rng(0).standard_normal((5, 1, 8, 8)).astype(np.float32)
    answers = executable.run({"image": images})
    with torch.no_grad():
        expected = module(torch.from_numpy(images))
    assert sorted(answers) == ["hidden", "logits"]
    np.testing.assert_allclose(answers["logits"], expected["logits"].numpy(), atol=1e-5)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
@pytest.mark.parametrize("given", ["builder", "weights", "folder"])
def test_a_builder_and_its_weights_become_onnx(
    net_file: Path, tmp_path: Path, pack, load, suffix: str, given: str
) -> None:
    module = module_of(net_file)
    weights = net_file.with_suffix(suffix)
    if suffix == ".safetensors":
        safetensors.torch.save_file(module.state_dict(), weights)
    else:
        torch.save(module.state_dict(), weights)
    packed = pack({"builder": net_file, "weights": weights, "folder": tmp_path}[given])
    assert packed.manifest.variants[0].engine == "onnxruntime", packed.manifest.lineage.checks
    assert packed.manifest.signature.batched
    assert f"weights of {weights.name}" in packed.manifest.lineage.checks
    check_answers(load(packed), module)


def test_a_builder_without_weights_is_the_same_each_time(net_file: Path, pack) -> None:
    assert pack(net_file).manifest.to_json() == pack(net_file).manifest.to_json()


def test_several_inputs_by_name_and_free_lengths(tmp_path: Path, pack, load) -> None:
    path = tmp_path / "texts.py"
    path.write_text(
        """
import torch

class Texts(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(50, 8)

    def forward(self, ids, mask):
        hidden = self.words(ids) * mask[..., None]
        return hidden.sum(1) / mask.sum(1, keepdim=True)

def build_model():
    return Texts()

def example_inputs():
    return {"ids": torch.randint(0, 50, (2, 6)), "mask": torch.ones(2, 6)}

def dynamic_shapes():
    rows, length = torch.export.Dim("rows"), torch.export.Dim("length")
    return {"ids": {0: rows, 1: length}, "mask": {0: rows, 1: length}}
"""
    )
    packed = pack(path)
    assert str(packed.manifest.signature).startswith("ids INT64[-1, -1], mask FP32[-1, -1] → output FP32[-1, 8]")
    assert any("a free axis of 17" in check for check in packed.manifest.lineage.checks)
    answers = load(packed).run({"ids": np.zeros((3, 11), np.int64), "mask": np.ones((3, 11), np.float32)})
    assert answers["output"].shape == (3, 8)


def test_what_cannot_be_exported_is_said(tmp_path: Path, pack) -> None:
    path = tmp_path / "twisted.py"
    path.write_text(
        """
import torch

class Twisted(torch.nn.Module):
    def forward(self, x):
        return x * 2 if x.sum().item() > 0 else x.nonzero().tolist()

def build_model():
    return Twisted()

def example_inputs():
    return torch.ones(2, 2)
"""
    )
    with pytest.raises(InvalidConfiguration, match="the module cannot be exported"):
        pack(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_alone_say_what_is_missing(net_file: Path, tmp_path: Path, pack, suffix: str) -> None:
    module = module_of(net_file)
    net_file.unlink()
    weights = tmp_path / f"net{suffix}"
    safetensors.torch.save_file(module.state_dict(), weights) if suffix == ".safetensors" else torch.save(
        module.state_dict(), weights
    )
    with pytest.raises(InvalidConfiguration, match=r"holds weights only: put a Python file .* \(net\.py\)"):
        pack(weights)


class Payload:
    def __reduce__(self):
        return os.system, ("touch /tmp/setpoint-was-here",)


def test_a_checkpoint_that_would_run_code_is_refused(net_file: Path, tmp_path: Path, pack) -> None:
    torch.save({"state_dict": Payload()}, tmp_path / "net.pt")
    with pytest.raises(InvalidConfiguration, match=r"net\.pt is more than weights"):
        pack(tmp_path / "net.pt", trust=True)
    assert not Path("/tmp/setpoint-was-here").exists()


def test_weights_of_another_module_are_refused_in_a_sentence(net_file: Path, pack) -> None:
    torch.save({"other": torch.ones(3)}, net_file.with_suffix(".pt"))
    with pytest.raises(InvalidConfiguration, match=r"net\.pt cannot be loaded into the module: Error\(s\) in loading"):
        pack(net_file)


def test_half_a_safetensors_file_is_refused(net_file: Path, tmp_path: Path, pack) -> None:
    weights = tmp_path / "net.safetensors"
    safetensors.torch.save_file(module_of(net_file).state_dict(), weights)
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(InvalidConfiguration, match="cannot be loaded into the module"):
        pack(weights)
    weights.write_bytes(content[:40])
    with pytest.raises(UnknownFormat):
        recognise(weights)
