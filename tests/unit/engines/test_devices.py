"""A device is taken where it is, refused with what to do where it is not, and fallen back from only when told."""

from pathlib import Path

import pytest
from onnx.helper import make_node

from setpoint.core import InvalidConfiguration
from setpoint.engines import EngineOptions, load_onnx
from setpoint.engines.devices import choose

PRESENT = {"cpu": "CPU", "cuda": "CUDA"}


@pytest.mark.parametrize(("asked", "chosen"), [("cpu", "CPU"), ("cuda", "CUDA"), ("CUDA", "CUDA"), ("npu, cpu", "CPU")])
def test_the_first_that_is_present_is_taken(asked: str, chosen: str) -> None:
    assert choose("x", asked, PRESENT) == chosen


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("npu", r"device npu: the x engine here computes on cpu, cuda only\. To fall back, say so: npu,cpu"),
        ("gpu9", r"device 'gpu9': expected one of cpu, cuda,"),
        (",", r"device ',': expected one of"),
    ],
)
def test_what_is_absent_is_refused(asked: str, said: str) -> None:
    with pytest.raises(InvalidConfiguration, match=said):
        choose("x", asked, PRESENT)


def test_what_to_install_is_said(graph, monkeypatch: pytest.MonkeyPatch) -> None:
    path: Path = graph([make_node("Neg", ["x"], ["y"])], {"x": ("FLOAT", ["n"])}, {"y": ("FLOAT", ["n"])})
    with pytest.raises(InvalidConfiguration, match="it needs onnxruntime-gpu in place of onnxruntime"):
        load_onnx(path, EngineOptions(device="cuda"))
    load_onnx(path, EngineOptions(device="cuda,cpu")).close()
    monkeypatch.setenv("SETPOINT_DEVICE", "cuda")
    with pytest.raises(InvalidConfiguration, match="To fall back, say so: cuda,cpu"):
        load_onnx(path, EngineOptions())
