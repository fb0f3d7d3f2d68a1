"""``serve`` with an objective that limits the loss: optimised on first use, remembered, stopped, or refused."""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

import setpoint as sp
from digits_files import DIGITS, NUMERALS, digits_graph
from setpoint.registry import EVIDENCE, Registry

OBJECTIVE = "p99<=5s, drop<=1%"


@pytest.fixture
def model(tmp_path: Path, home: Path) -> Path:
    onnx.save(digits_graph(), tmp_path / "digits.onnx")
    return tmp_path / "digits.onnx"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    np.savez(tmp_path / "labelled.npz", image=DIGITS, label=NUMERALS)
    return tmp_path / "labelled.npz"


@contextlib.contextmanager
def serving(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """The command, with pipes; it ends with the block."""
    command = [sys.executable, "-P", "-m", "setpoint", "serve", *map(str, arguments), "--port", "0"]
    options = ["--json", "--until-stdin-closes"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, *options], text=True, **pipes) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.stdin.close()
                process.stdin = None
                process.wait(60)


def served(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The version that serves, and what was told before."""
    announced = json.loads(process.stdout.readline())
    process.stdin.close()
    told = process.stderr.read()
    process.wait(60)
    process.stdin = None
    return announced["models"][0]["version"], told


def test_the_first_use_optimises_and_the_next_one_starts_with_what_was_found(model: Path, data: Path) -> None:
    asked = (model, "--objective", OBJECTIVE, "--data", data, "--budget", "2s")
    with serving(*asked) as process:
        version, told = served(process)
    assert version == 2
    assert f"optimise   digits:1 for {OBJECTIVE}, judged by labelled.npz: up to 2s, once here" in told
    assert "chosen " in told
    assert "stored     digits:2, with fp32" in told
    with serving(*asked) as process:
        version, told = served(process)
    assert version == 2
    assert "optimised  before: digits:2, with fp32" in told
    assert "optimise " not in told


@pytest.mark.slow
def test_an_interrupt_serves_what_is_there_by_then_and_is_not_remembered(model: Path, data: Path, home: Path) -> None:
    with serving(model, "--objective", OBJECTIVE, "--data", data, "--budget", "10m") as process:
        assert process.stderr.readline().startswith("optimise ")
        process.send_signal(signal.SIGINT)
        version, _ = served(process)
    assert version == 2
    registry = Registry(home)
    evidence = json.loads((registry.folder(registry.resolve("digits:2")) / EVIDENCE).read_text())
    assert evidence["stopped"], "so that the next one goes on"
    assert any("it was stopped before it was done" in warning for warning in evidence["warnings"])


def test_ending_while_it_optimises_ends_both_processes(model: Path, data: Path, home: Path) -> None:
    with serving(model, "--objective", OBJECTIVE, "--data", data, "--budget", "10m") as process:
        assert process.stderr.readline().startswith("optimise ")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
        assert process.stderr.read() == "", "the other one held the same pipe, so it is gone too"
    with serving(model, "--objective", OBJECTIVE, "--data", data, "--budget", "10m") as process:
        assert process.stderr.readline().startswith("optimise ")
        process.stdin.close()  # as when its starter is gone
        process.stdin = None
        assert process.wait(60) == 0
    assert [each.version for each in Registry(home).versions("digits")] == [1]


def test_data_that_do_not_fit_end_it_with_the_reason(model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", image=DIGITS[:, :5])
    with serving(model, "--objective", OBJECTIVE, "--data", tmp_path / "other.npz") as process:
        assert process.wait(60) == 2
        assert "image" in process.stderr.read()


def test_from_python_nothing_is_optimised_unless_it_is_asked_for(model: Path) -> None:
    with sp.serve(model, objective=OBJECTIVE) as service:
        assert [(each.name, each.version) for each in service.client.models()] == [("digits", "1")]
