"""A device is taken where it is, refused with what to do where it is not, and fallen back from only when told."""

import logging
from pathlib import Path

import onnxruntime
import pytest
from onnx.helper import make_node

from setpoint.core import InvalidConfiguration, ModelError
from setpoint.engines import EngineOptions, load_onnx
from setpoint.engines.devices import start

PRESENT = ("cpu", "cuda")


def absent(device: str) -> str:
    if device == "cuda":
        raise ModelError("no driver")
    return device


@pytest.mark.parametrize(
    ("asked", "chosen"), [("cpu", "cpu"), ("cuda", "cuda"), ("CUDA", "cuda"), ("npu, cpu", "cpu"), ("cuda,cpu", "cuda")]
)
def test_the_first_that_is_present_is_taken(asked: str, chosen: str) -> None:
    assert start("x", asked, PRESENT, str) == chosen


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("npu", r"device npu: the x engine here computes on cpu, cuda only\. To fall back, say so: npu,cpu$"),
        ("npu,gpu", r"device npu, gpu: .*; it needs a driver\. To fall back, say so: npu,gpu,cpu$"),
        ("gpu9", r"device 'gpu9': expected one of cpu, cuda,"),
        ("cpu,gpu9", r"device 'cpu,gpu9': expected one of cpu, cuda,"),
        (",", r"device ',': expected one of"),
    ],
)
def test_what_is_absent_is_refused(asked: str, said: str) -> None:
    with pytest.raises(InvalidConfiguration, match=said):
        start("x", asked, PRESENT, str, {"gpu": "a driver"})


def test_one_that_does_not_start_is_told_and_fallen_back_from_only_when_told(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ModelError, match="no driver"):
        start("x", "cuda", PRESENT, absent)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert start("x", "cuda,npu,cpu", PRESENT, absent) == "cpu"
    assert [record.getMessage() for record in caplog.records] == ["device cuda: no driver; falling back to cpu"]


@pytest.fixture
def negated(graph) -> Path:
    path: Path = graph([make_node("Neg", ["x"], ["y"])], {"x": ("FLOAT", ["n"])}, {"y": ("FLOAT", ["n"])})
    return path


def test_what_to_install_is_said(negated: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="it needs onnxruntime-gpu in place of onnxruntime"):
        load_onnx(negated, EngineOptions(device="cuda"))


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize("device", ["cuda", "tensorrt", "directml", "gpu"])
def test_a_library_that_quietly_takes_the_cpu_is_found_out(
    negated: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """As where the library knows CUDA and the machine has no driver for it."""
    names = {"cuda": "CUDA", "tensorrt": "Tensorrt", "directml": "Dml", "gpu": "OpenVINO"}
    offered = [f"{names[device]}ExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    with pytest.raises(ModelError, match=f"ONNX Runtime could not start {offered[0]} here"):
        load_onnx(negated, EngineOptions(device=device))
    executable = load_onnx(negated, EngineOptions(device=f"{device},cpu"))
    assert executable.device == "cpu"
    executable.close()
