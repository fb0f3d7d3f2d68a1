"""The command line as a person uses it: real processes, a real model, real signals, the printed curl lines."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from setpoint.machine import rss_bytes

BIN = Path(sys.executable).parent
START_LIMIT_S = 60
MIB = 1 << 20

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    variables = {**os.environ, "SETPOINT_HOME": str(tmp_path / "home"), "PATH": f"{BIN}:{os.environ['PATH']}"}
    variables.pop("SETPOINT_TRACEBACK", None)
    return variables


@pytest.fixture
def setpoint(environment: dict[str, str], tmp_path: Path) -> Command:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["setpoint", *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=START_LIMIT_S,
            check=False,
        )

    return run


def write_linear(path: Path, features: int = 3) -> Path:
    """y = x W with W = 0, 1, 2, …: small enough to check by hand."""
    weights = np.arange(features * 2, dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 2])],
        [helper.make_tensor("w", TensorProto.FLOAT, [features, 2], weights.tobytes(), raw=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))
    return path


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    return write_linear(tmp_path / "linear.onnx")


class Served:
    """A running ``setpoint serve``."""

    def __init__(self, arguments: tuple[str, ...], environment: dict[str, str], cwd: Path) -> None:
        self.started_s = time.monotonic()
        self.process = subprocess.Popen(
            ["setpoint", "serve", "--port", "0", *arguments],
            env=environment,
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []

    def read_until(self, last: str) -> None:
        """Read stdout up to the first line that starts with ``last``."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith(last):
                return
        self.process.wait(START_LIMIT_S)
        assert self.process.stderr is not None
        pytest.fail(f"setpoint serve ended with {self.process.returncode}: {self.lines} {self.process.stderr.read()}")

    @property
    def url(self) -> str:
        return next(line.split()[1] for line in self.lines if line.startswith("listening"))

    def stop(self, number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """Send a signal and wait; gives the exit code and what was on stderr."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=START_LIMIT_S)
        return self.process.returncode, err


@pytest.fixture
def serve(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(*arguments: str) -> Served:
        started.append(Served(arguments, environment, tmp_path))
        return started[-1]

    yield start
    for served in started:
        if served.process.poll() is None:
            served.process.kill()
        served.process.communicate(timeout=START_LIMIT_S)


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


def test_help_takes_less_than_150_ms(environment: dict[str, str]) -> None:
    durations_s = []
    for _ in range(7):
        started_s = time.monotonic()
        subprocess.run(["setpoint", "--help"], env=environment, capture_output=True, check=True)
        durations_s.append(time.monotonic() - started_s)
    assert min(durations_s) < 0.150, durations_s


def test_a_model_is_packed_listed_inspected_and_aliased(setpoint: Command, linear: Path) -> None:
    packed = setpoint("pack", "linear.onnx", "--alias", "champion")
    assert packed.returncode == 0, packed.stderr
    assert packed.stdout.startswith("packed     linear:1  sha256:")
    assert "x FP32[-1, 3] → y FP32[-1, 2]" in packed.stdout
    assert packed.stderr == ""

    again = json.loads(setpoint("pack", "linear.onnx", "--json").stdout)
    assert (again["reference"], again["created"], again["aliases"]) == ("linear:1", False, ["champion"])

    write_linear(linear, features=4)
    assert setpoint("pack", "linear.onnx").stdout.startswith("packed     linear:2")
    assert [each["reference"] for each in json.loads(setpoint("models", "--json").stdout)] == ["linear:1", "linear:2"]
    assert setpoint("alias", "linear:2", "champion").returncode == 0
    assert "aliases    champion" in setpoint("inspect", "linear:champion").stdout
    assert setpoint("inspect", "linear:1", "--verify").returncode == 0


def test_what_is_no_model_is_refused_in_one_line(setpoint: Command, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing to serve")
    for source in ("notes.txt", "absent.onnx"):
        refused = setpoint("pack", source)
        assert refused.returncode == 2
        assert refused.stderr.count("\n") == 1
        assert source in refused.stderr


def test_the_printed_curl_line_works_and_ctrl_c_ends_in_order(
    serve: Callable[..., Served], environment: dict[str, str], linear: Path
) -> None:
    served = serve("linear.onnx")
    served.read_until("try")
    assert any(re.match(r"serving    linear:1 .*1 worker × \d+ threads?$", line) for line in served.lines), served.lines
    line = served.lines[-1].removeprefix("try").strip()
    answer = subprocess.run(line, shell=True, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout)["outputs"][0]["data"] == [3.0, 4.5]  # 0.5 times the column sums of W
    for page in ("/docs", "/metrics"):
        with urllib.request.urlopen(served.url + page, timeout=10) as found:
            assert found.status == 200
    code, err = served.stop()
    assert code == 0
    assert "Traceback" not in err
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(served.url.rsplit(":", 1)[1])), timeout=5).close()


def test_a_long_example_body_is_piped_from_inspect(
    serve: Callable[..., Served], environment: dict[str, str], tmp_path: Path
) -> None:
    write_linear(tmp_path / "wide.onnx", features=500)
    served = serve("wide.onnx")
    served.read_until("try")
    line = served.lines[-1].removeprefix("try").strip()
    assert line.startswith("setpoint inspect wide:1 --example ")
    answer = subprocess.run(line, shell=True, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout)["outputs"][0]["shape"] == [1, 2]


def test_several_models_from_the_registry_with_their_own_workers(
    serve: Callable[..., Served], setpoint: Command, linear: Path
) -> None:
    setpoint("pack", "linear.onnx")
    setpoint("pack", "linear.onnx", "--name", "twin", "--alias", "live")
    served = serve("linear", "twin:live", "--workers", "2", "--threads", "1", "--objective", "p99<=20ms")
    served.read_until("try")
    shown = [line for line in served.lines if line.startswith("serving")]
    assert len(shown) == 2
    assert all(line.endswith("2 workers × 1 thread, objective p99<=20ms") for line in shown)
    assert get(served.url + "/v2/models/twin")["inputs"][0]["name"] == "x"
    assert served.stop(signal.SIGTERM)[0] == 0


def test_json_is_one_record_when_ready(serve: Callable[..., Served], linear: Path) -> None:
    served = serve("linear.onnx", "--json")
    served.read_until("{")
    record = json.loads(served.lines[-1])
    assert record["models"][0]["name"] == "linear"
    assert get(record["url"] + "/v2/models/linear")["platform"] == "onnxruntime_onnx"


def test_a_taken_port_is_misuse_in_one_line(setpoint: Command, linear: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = setpoint("serve", "linear.onnx", "--port", str(port))
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert f"127.0.0.1:{port}" in refused.stderr
    assert "--port" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("linear.onnx", "--objective", "fast"), "p99<=20ms"),
        (("linear.onnx", "--max-body", "huge"), "64MiB"),
        (("linear.onnx", "other.onnx", "--name", "both"), "--name"),
        (("linear.onnx", "--workers", "0"), "workers"),
        (("nosuch",), "nosuch"),
        ((), "name a model, or write a setpoint.toml"),
    ],
)
def test_misuse_says_what_was_expected(setpoint: Command, linear: Path, arguments: tuple[str, ...], said: str) -> None:
    refused = setpoint("serve", *arguments)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_ctrl_c_while_packing_is_quiet_and_leaves_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import time, pathlib\nimport setpoint as sp\n"
        f"pathlib.Path({str(tmp_path / 'begun')!r}).touch()\ntime.sleep(60)\n"
        "class Slow(sp.Model):\n    @sp.endpoint\n    def ask(self, text: str) -> str:\n        return text\n"
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    # A shell's background job ignores Ctrl-C and hands that down, and these tests may run in one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    packing = subprocess.Popen(
        ["setpoint", "pack", "slow.py"],
        env={**environment, "TMPDIR": str(temporary)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, so that Ctrl-C reaches all of it, as from a terminal
    )
    signal.signal(signal.SIGINT, before)
    try:
        deadline_s = time.monotonic() + START_LIMIT_S
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < deadline_s
            assert packing.poll() is None
            time.sleep(0.01)
        os.killpg(packing.pid, signal.SIGINT)
        out, err = packing.communicate(timeout=START_LIMIT_S)
    finally:
        if packing.poll() is None:
            os.killpg(packing.pid, signal.SIGKILL)
            packing.communicate()
    assert packing.returncode == 130
    assert (out.strip(), err.strip()) == ("", "")
    assert list(temporary.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(packing.pid, 0)


def children_of(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs /proc")
def test_an_idle_node_is_small_and_holds_no_framework(
    serve: Callable[..., Served], setpoint: Command, linear: Path, record_property: Callable[[str, object], None]
) -> None:
    setpoint("pack", "linear.onnx")
    served = serve("linear", "--threads", "1")
    served.read_until("try")
    node = served.process.pid
    sizes_mb = {pid: rss_bytes(pid) / 1e6 for pid in (node, *children_of(node))}
    maps = Path(f"/proc/{node}/maps").read_text()
    assert served.stop()[0] == 0
    record_property("resident_mb", sizes_mb)
    assert sizes_mb[node] < 120, sizes_mb
    assert len(sizes_mb) > 1
    for heavy in ("/onnxruntime/", "/onnx/", "/sklearn/", "/scipy/"):
        assert heavy not in maps


def test_curl_is_here_to_try_the_printed_lines() -> None:
    assert shutil.which("curl"), "apt-get install curl"
