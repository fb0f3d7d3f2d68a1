"""--device: said when it is absent, and where a model is found to be."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import onnx
import pytest

import setpoint as sp
from digits_files import digits_graph
from setpoint.core import SetpointError


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    onnx.save(digits_graph(), tmp_path / "digits.onnx")
    return tmp_path / "digits.onnx"


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "setpoint", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}, timeout=120
    )


def get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


@pytest.mark.parametrize("verb", [("serve", "--port", 0), ("bench",), ("optimize", "--length", 1)])
def test_an_absent_device_is_refused_in_a_line(home: Path, digits: Path, verb: tuple[object, ...]) -> None:
    ended = run(*verb, digits, "--device", "cuda")
    assert ended.returncode in (1, 2), ended.stdout
    (said,) = [line for line in ended.stderr.splitlines() if line.startswith("Error: ")]
    assert "device cuda: the onnxruntime engine here computes on" in said
    assert said.endswith("it needs onnxruntime-gpu in place of onnxruntime. To fall back, say so: cuda,cpu")


def test_variants_are_measured_on_one_device(home: Path, digits: Path) -> None:
    ended = run("optimize", digits, "--device", "cuda,cpu")
    assert ended.returncode == 2
    assert "variants are measured on one device; give one" in ended.stderr


def test_the_variable_says_it_for_bench_too(home: Path, digits: Path) -> None:
    ended = run("bench", digits, SETPOINT_MODEL_DEVICE="abacus")
    assert ended.returncode == 2
    assert "device 'abacus': expected one of cpu, cuda," in ended.stderr


def test_where_it_was_fallen_back_to_is_told(digits: Path) -> None:
    with sp.serve(digits, device="cuda,cpu") as service:
        (model,) = get(f"{service.url}/models")["models"]
        assert model["devices"] == {"fp32": "cpu"}
        config = get(f"{service.url}/v2/models/digits/config")
        assert config["parameters"] == {"device": {"string_value": "cpu"}}
    with pytest.raises(SetpointError, match="device cuda: the onnxruntime engine here"):
        sp.serve(digits, device="cuda")


def test_doctor_says_what_engines_compute_on(home: Path) -> None:
    checks = json.loads(run("doctor", "--json").stdout)["checks"]
    found = {check["about"]: check["found"] for check in checks}
    assert found["engine onnxruntime"].endswith(" on cpu")
    assert found["engine python"].endswith(" on any device")
