"""``setpoint load`` as a person runs it: against a real node, and against a server that misbehaves on purpose.

The machine may be busy with other things, so deadlines are long, and only what holds on a slow machine is asserted.
"""

import asyncio
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from harness import RunningNode
from onnx import TensorProto, helper
from unruly import CAPACITY_PER_S, STALL_S, Unruly, unruly_server

from setpoint.plan import LoadPlan, parse_arrivals, run_load
from setpoint.plan.load.transport import Done

LIMIT_S = 300  # a guard against hanging, not a promise


def setpoint_load(url: str, *options: str, code: int | None = 0) -> dict[str, Any]:
    """Run it with ``--json``; gives the record. ``code`` None: 0, or 1 because this machine lagged."""
    done = run(url, *options, "--json")
    assert done.returncode in ((0, 1) if code is None else (code,)), done.stderr
    if code is None and done.returncode == 1:
        assert "lag" in done.stderr or "void" in done.stderr, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def run(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "setpoint", "load", url, "--warm-up", "0.2s", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)


def one(url: str, *options: str) -> dict[str, Any]:
    (result,) = setpoint_load(url, *options, code=None)["runs"]
    total = result["attained"] + result["late"] + result["refused"] + sum(result["errors"].values())
    assert total == result["offered"] == sum(second["offered"] for second in result["per_second"])
    return dict(result)


@pytest.fixture
def server() -> Iterator[tuple[str, Unruly]]:
    with unruly_server() as running:
        yield running


@pytest.fixture
def iris(pack: Callable[..., str], serve: Callable[..., RunningNode], tmp_path: Path) -> tuple[str, Path]:
    """A node that serves a real classifier, and the data set as ``.npz``."""
    skops = pytest.importorskip("skops.io")
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    features, labels = load_iris(return_X_y=True)
    features = features.astype(np.float32)
    skops.dump(LogisticRegression(max_iter=500).fit(features, labels), tmp_path / "iris.skops")
    np.savez(tmp_path / "iris.npz", X=features, y=labels)
    node = serve(pack(tmp_path / "iris.skops", "iris"))
    return f"http://127.0.0.1:{node.port}", tmp_path / "iris.npz"


def test_a_real_node_is_measured_through_both_of_its_protocols(iris: tuple[str, Path], tmp_path: Path) -> None:
    url, data = iris
    common = ("--rate", "300", "--for", "2s", "--deadline", "400ms")
    for path, protocol in (("/v2/models/iris", "V2 JSON"), ("/models/iris/predict", "native JSON")):
        result = one(f"{url}{path}", *common)
        assert result["target"] == protocol
        assert result["url"] == url + path + ("/infer" if protocol == "V2 JSON" else "")
        assert result["errors"] == {}
        assert result["statuses"] == {"200": result["offered"]}
        assert 500 < result["offered"] < 700
        assert result["attainment"] > 0.9
        assert 0 < result["latency"]["p50_ms"] <= result["latency"]["p99_ms"]
        assert result["generator"]["cpu_s"] > 0
    result = one(f"{url}/v2/models/iris", *common, "--data", str(data), "--rows", "5")
    assert result["statuses"] == {"200": result["offered"]}
    lines = tmp_path / "bodies.jsonl"
    lines.write_text('{"X": [[5.1, 3.5, 1.4, 0.2]]}\n\n{"X": [[1, 2, 3, 4], [1, 2, 3, 4]]}\n')
    for path in ("/v2/models/iris/infer", "/models/iris/predict"):
        result = one(f"{url}{path}", *common, "--data", str(lines))
        assert result["statuses"] == {"200": result["offered"]}


def test_tensors_travel_as_bytes_where_that_is_asked_for(iris: tuple[str, Path]) -> None:
    url, data = iris
    common = ("--rate", "200", "--for", "1s", "--deadline", "400ms", "--wire", "binary")
    for more in ((), ("--data", str(data), "--rows", "3")):
        result = one(f"{url}/v2/models/iris", *common, *more)
        assert result["target"] == "V2 binary"
        assert result["statuses"] == {"200": result["offered"]}


def test_a_node_is_measured_over_grpc(pack: Callable[..., str], serve: Callable[..., RunningNode]) -> None:
    pytest.importorskip("grpc")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", ends[:1], ends[1:])
    opset = helper.make_opsetid("", 17)
    node = serve(pack(helper.make_model(graph, opset_imports=[opset], ir_version=9)), options=("--grpc-port", "0"))
    (name,) = [model["name"] for model in node.announced["models"]]
    result = one(f"grpc://{node.announced['grpc']}/{name}", "--rate", "100", "--for", "1s", "--deadline", "400ms")
    assert result["target"] == "V2 gRPC"
    assert result["statuses"] == {"200": result["offered"]}
    refused = run(f"grpc://{node.announced['grpc']}/nothing", "--rate", "1", "--deadline", "1s")
    assert refused.returncode == 1
    assert "NOT_FOUND" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_several_rates_make_a_table_a_record_and_a_picture(iris: tuple[str, Path], tmp_path: Path) -> None:
    url, _ = iris
    picture, out = tmp_path / "load.svg", tmp_path / "load.json"
    files = ("--picture", str(picture), "--out", str(out))
    done = run(f"{url}/v2/models/iris", "--rate", "100,300", "--for", "1s", "--deadline", "400ms", *files)
    assert len(done.stdout.splitlines()) == 3, done.stdout
    assert done.stdout.startswith("OFFERED/s")
    assert [result["rate_per_s"] for result in json.loads(out.read_text())["runs"]] == [100, 300]
    assert ElementTree.fromstring(picture.read_text()).tag.endswith("svg")


def test_requests_that_the_node_does_not_take_are_one_error(iris: tuple[str, Path]) -> None:
    url, _ = iris
    common = ("--rate", "100", "--for", "1s", "--deadline", "400ms")
    done = run(f"{url}/v2/models/iris", *common, "--body", '{"inputs":[]}')
    assert done.returncode == 1
    assert "answers 400 to the first request" in done.stderr
    assert "X FP32[-1, 4]" in done.stderr
    done = run(f"{url}/v2/models/nothing", *common)
    assert (done.returncode, "answers 404" in done.stderr) == (2, True)


def test_a_stall_is_seen_by_all_requests_that_were_due_meanwhile(server: tuple[str, Unruly]) -> None:
    """A closed loop would count one slow request for each connection and stall, and hide the rest."""
    url, _ = server
    result = one(
        f"{url}/stall", "--arrivals", "constant", "--rate", "200", "--for", "4s", "--deadline", "1s", "--body", "{}"
    )
    slow_ms = STALL_S * 1e3
    over_half = sum(count for highest_ns, count in result["histogram"] if highest_ns > slow_ms / 2 * 1e6)
    over_tenth = sum(count for highest_ns, count in result["histogram"] if highest_ns > slow_ms / 10 * 1e6)
    # About 3 stalls of 200 ms in 4 s at 200/s: 120 requests were due meanwhile, half of them wait for over 100 ms.
    assert over_half >= 40
    assert over_tenth >= 80
    assert result["latency"]["max_ms"] > slow_ms * 0.8
    assert max(second["p99_ms"] for second in result["per_second"]) > slow_ms * 0.7


@pytest.mark.parametrize(
    ("path", "kind"),
    [("broken", "status_500"), ("reset", "reset"), ("hangup", "closed"), ("garbage", "garbage")],
)
def test_every_way_of_failing_is_a_miss_of_its_kind(server: tuple[str, Unruly], path: str, kind: str) -> None:
    url, _ = server
    result = one(f"{url}/{path}", "--rate", "100", "--for", "1s", "--deadline", "1s", "--body", "{}")
    assert result["errors"].get(kind, 0) > 0.9 * result["offered"], result["errors"]
    assert set(result["errors"]) <= {kind, "reset", "closed"}
    assert result["attained"] == 0
    assert result["verdict"]["state"] == "refuted"
    assert result["first_error"].startswith(kind)


def test_refusals_are_misses_with_a_latency_of_their_own(server: tuple[str, Unruly]) -> None:
    url, _ = server
    result = one(f"{url}/refuse", "--rate", "200", "--for", "1s", "--deadline", "1s", "--body", "{}")
    assert (
        result["refused"] == result["statuses"]["503"] + result["statuses"]["429"] == result["refusal_latency"]["count"]
    )
    assert 0.6 < result["refused"] / result["offered"] < 0.9
    assert result["errors"] == {}
    assert result["latency"]["count"] == result["attained"] + result["late"]


def test_answers_that_never_come_are_given_up_and_limit_what_is_in_flight(server: tuple[str, Unruly]) -> None:
    url, running = server
    options = ("--rate", "200", "--for", "1s", "--deadline", "200ms", "--timeout", "500ms", "--in-flight", "20")
    result = one(f"{url}/silent", *options, "--body", "{}")
    assert set(result["errors"]) == {"timeout", "overflow"}
    assert result["attained"] == 0
    assert 20 <= result["errors"]["timeout"] <= 80
    assert running.seen["/silent"] <= result["errors"]["timeout"] + 22  # what overflowed was not sent
    assert result["latency"] is None


def test_invalid_v2_answers_are_errors_although_their_status_is_200(server: tuple[str, Unruly]) -> None:
    url, running = server
    result = one(f"{url}/v2/models/m", "--rate", "150", "--for", "1s", "--deadline", "1s", "--rows", "2")
    assert result["errors"]["invalid"] == pytest.approx(result["offered"] * 2 / 3, abs=3)
    assert result["statuses"] == {"200": result["offered"]}
    (tensor,) = json.loads(running.bodies[-1])["inputs"]
    assert (tensor["name"], tensor["shape"], len(tensor["data"])) == ("x", [2, 2], 4)


@pytest.mark.parametrize("path", ["old", "pieces"])
def test_answers_of_every_form_are_read_to_their_end(server: tuple[str, Unruly], path: str) -> None:
    url, running = server
    result = one(f"{url}/{path}", "--rate", "100", "--for", "1s", "--deadline", "1s", "--body", "{}", "-H", "X-Who: me")
    assert result["errors"] == {}
    assert result["statuses"] == {"200": result["offered"]}
    if path == "old":
        assert running.connections >= result["offered"]
    else:
        assert running.connections < result["offered"] / 2


def test_the_largest_rate_that_is_held_is_found(server: tuple[str, Unruly]) -> None:
    url, _ = server
    # The deadline is long, for lags of 5 % of it make a probe void and a busy machine lags.
    options = ("--find-max", "--rate", "100", "--for", "2s", "--attain", "90%", "--deadline", "400ms", "--body", "{}")
    record = setpoint_load(f"{url}/limited", *options, code=None)
    found = record["maximum"]
    assert found["rate_per_s"] is not None
    assert found["rate_per_s"] < CAPACITY_PER_S * 1.35  # a second over capacity fills a queue of a deadline
    assert found["not_proven_per_s"] > found["rate_per_s"]
    assert {probe["outcome"] for probe in found["probes"]} >= {"proven"}
    held = [run for run in record["runs"] if run["rate_per_s"] == found["rate_per_s"]]
    assert held[-1]["verdict"]["state"] == "proven"


def test_a_generator_that_cannot_keep_time_measures_nothing(server: tuple[str, Unruly]) -> None:
    url, _ = server
    # 5 % of the deadline is 50 ns: no machine sends that precisely.
    done = run(f"{url}/fine", "--rate", "100", "--for", "1s", "--deadline", "0.001ms", "--body", "{}")
    assert done.returncode == 1
    assert "void" in done.stderr
    assert "p99 lag" in done.stderr
    assert "void" in done.stdout


def test_a_recorded_schedule_is_replayed(server: tuple[str, Unruly], tmp_path: Path) -> None:
    url, _ = server
    schedule = tmp_path / "day.csv"
    schedule.write_text("seconds\n" + "\n".join(f"{number * number / 1000:.3f}" for number in range(40)) + "\n")
    result = one(f"{url}/fine", "--arrivals", str(schedule), "--deadline", "1s", "--body", "{}")
    assert result["offered"] == 40
    assert result["arrivals"].endswith("day.csv")
    assert [second["offered"] for second in result["per_second"]] == [32, 8]


class SlowSender:
    """A target and its connections: answers come at once, but every send takes 10 ms of the generator's time."""

    name, url, requests, opened, in_flight = "slow", "slow://", 1, 0, 0

    def open(self, loop: asyncio.AbstractEventLoop, limit: int, done: Done) -> "SlowSender":
        self.done = done
        return self

    def send(self, token: int, request: int) -> bool:
        time.sleep(0.01)
        self.done(token, 200, b"", "")
        return True

    def check(self, body: bytes) -> str | None:
        return None

    def oldest(self) -> int | None:
        return None

    def abandon(self, token: int) -> None:
        raise AssertionError("nothing waits")

    def close(self) -> None:
        pass


def test_latency_counts_from_the_intended_time_although_the_generator_lags() -> None:
    plan = LoadPlan(parse_arrivals("constant"), 200, 1, deadline_s=0.5, timeout_s=1, warm_up_s=0)
    result = run_load(SlowSender(), plan)
    # 200 sends of 10 ms take 2 s: the last was due a second before, and its own exchange took 10 ms.
    assert result.latency is not None
    assert result.latency.max_ms > 900
    assert result.generator.lag is not None
    assert result.generator.lag.max_ms > 900
    assert result.late > 80
    assert "p99 lag" in (result.void or "")


def test_a_person_at_a_terminal_sees_the_run(server: tuple[str, Unruly]) -> None:
    url, _ = server
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "setpoint", "load", f"{url}/fine", "--body", "{}", "--rate", "100", "--for", "2s"]
    with subprocess.Popen(
        [*command, "--deadline", "1s"], stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # how Linux says that the other side is closed
                break
            if not part:
                break
            shown += part
        assert process.stdout is not None
        printed = process.stdout.read()
    os.close(ours)
    assert b"in flight" in shown
    assert b"attained" in printed
