"""Several models as one: real nodes, small graphs of every kind, and what happens when a step fails."""

import http.client
import json
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import RunningNode, until

from composition_files import composition, label, scale, total

Pack, Serve = Callable[..., str], Callable[..., RunningNode]
TRACE = "0af7651916cd43dd8448eb211c80319c"
SPLIT = """
import dataclasses
import numpy as np
import setpoint as sp

@dataclasses.dataclass
class Parts:
    rows: sp.Tensor[np.float32, None, 2]
    owner: sp.Tensor[np.int64, None]

class Split(sp.Model):
    @sp.endpoint
    def split(self, counts: sp.Tensor[np.int64, None]) -> Parts:
        if (counts < 0).any():
            raise sp.InvalidInput("a count is below 0")
        if (counts > 1_000_000).any():
            import os
            os._exit(9)
        owner = np.repeat(np.arange(len(counts)), counts)
        return Parts(np.stack([owner + 1, owner + 1], axis=1).astype(np.float32), owner)
"""
GATHER = """
import numpy as np
import setpoint as sp

class Gather(sp.Model):
    @sp.endpoint
    def gather(
        self, rows: sp.Tensor[np.float32, None, 2], owner: sp.Tensor[np.int64, None]
    ) -> sp.Tensor[np.float32, 2]:
        assert len(rows) == len(owner)
        return rows.sum(axis=0) if len(rows) else np.zeros(2, np.float32)
"""
NAP = """
import time
import setpoint as sp

class Nap(sp.Model):
    @sp.endpoint(batch=4)
    def nap(self, x: list[sp.Tensor["float32", 2]]) -> list[sp.Tensor["float32", 2]]:
        time.sleep(max(abs(float(row[0])) for row in x))
        return x
"""

BAD = """
import setpoint as sp

class Bad(sp.Model):
    def load(self, ctx):
        raise RuntimeError("no luck")

    @sp.endpoint(batch=4)
    def run(self, x: list[sp.Tensor["float32", 2]]) -> list[sp.Tensor["float32", 2]]:
        return x
"""


def tensor(name: str, rows: Sequence[Any], datatype: str = "FP32") -> dict[str, Any]:
    array = np.array(rows)
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.ravel().tolist()}


def infer(node: RunningNode, model: str, *tensors: Mapping[str, Any], headers: Mapping[str, str] = {}) -> Any:
    answer = node.ask("POST", f"/v2/models/{model}/infer", {"inputs": list(tensors)}, headers=headers)
    assert answer.status == 200, answer.body
    return {one["name"]: np.array(one["data"]).reshape(one["shape"]).tolist() for one in answer.json["outputs"]}


def step(name: str, model: str, when: Mapping[str, Any] | None = None, **inputs: str) -> dict[str, Any]:
    return {"name": name, "model": model, "inputs": inputs, **({"when": when} if when else {})}


@pytest.fixture
def many(pack: Pack, tmp_path: Path) -> Callable[..., str]:
    """``many(name, inputs, steps, outputs, files)`` packs a composition."""

    def make(name: str, inputs: list[str], steps: list[Any], outputs: dict[str, str], files: dict[str, Any]) -> str:
        declared = {"inputs": inputs, "steps": steps, "outputs": outputs}
        return pack(composition(tmp_path / name, declared, files), name)

    return make


def fan(many: Callable[..., str], name: str) -> str:
    """Rows that are made, doubled in batches, and gathered again."""
    steps = [
        step("split", "split.py", counts="counts"),
        step("work", "double.onnx", x="split.rows"),
        step("gather", "gather.py", rows="work", owner="split.owner"),
    ]
    files = {"split.py": SPLIT, "gather.py": GATHER, "double.onnx": scale(2)}
    return many(name, ["counts"], steps, {"sum": "gather", "rows": "work"}, files)


def test_every_kind_of_graph_answers_as_its_models_would_alone(many: Callable[..., str], serve: Serve) -> None:
    files = {"double.onnx": scale(2), "triple.onnx": scale(3), "minus.onnx": scale(-1), "total.onnx": total()}
    labels = {f"label{shift}.onnx": label(shift, 3) for shift in (0, 1)}
    sequence = many(
        "sequence", ["x"], [step("b", "triple.onnx", x="a"), step("a", "double.onnx", x="x")], {"y": "b"}, files
    )
    ensemble = many(
        "ensemble",
        ["x"],
        [
            step("a", "double.onnx", x="x"),
            step("b", "minus.onnx", x="x"),
            {"name": "even", "mean": ["a", "b"]},
            {"name": "uneven", "mean": ["a.y", "b.y"], "weights": [3, 1]},
            {"name": "both", "concat": ["a", "b", "x"]},
        ],
        {"uneven": "uneven", "even": "even", "both": "both"},
        files,
    )
    vote = many(
        "vote",
        ["x"],
        [
            step("a", "label0.onnx", x="x"),
            step("b", "label1.onnx", x="x"),
            step("c", "label1.onnx", x="x"),
            {"name": "most", "vote": ["a", "b", "c"]},
            {"name": "heavy", "vote": ["a", "b", "c"], "weights": [5, 1, 1]},
        ],
        {"most": "most", "heavy": "heavy"},
        labels,
    )
    branch = many(
        "branch",
        ["x"],
        [
            step("judge", "total.onnx", x="x"),
            step("high", "triple.onnx", {"of": "judge", "above": 0}, x="x"),
            step("higher", "double.onnx", x="high"),
            step("low", "minus.onnx", {"of": "judge", "at_most": 0}, x="x"),
            {"name": "either", "choose": ["higher", "low"]},
        ],
        {"y": "either", "judged": "judge"},
        files,
    )
    node = serve(sequence, ensemble, vote, branch, fan(many, "fan"))
    x = [[1.0, 2.0], [-3.0, 1.0], [0.5, 0.25]]
    assert infer(node, "sequence", tensor("x", x)) == {"y": (6 * np.array(x)).tolist()}
    given = infer(node, "ensemble", tensor("x", x))
    assert list(given) == ["uneven", "even", "both"], "in the order in which they were declared"
    np.testing.assert_allclose(given["even"], 0.5 * np.array(x), rtol=1e-6)
    np.testing.assert_allclose(given["uneven"], 1.25 * np.array(x), rtol=1e-6)
    assert given["both"][1] == [-6.0, 2.0, 3.0, -1.0, -3.0, 1.0]
    columns = [[0.9, 0.0, 0.1], [0.0, 0.1, 0.9]]
    assert infer(node, "vote", tensor("x", columns)) == {"most": [1, 0], "heavy": [0, 2]}
    assert infer(node, "branch", tensor("x", x)) == {
        "y": [[6.0, 12.0], [3.0, -1.0], [3.0, 1.5]],
        "judged": [[3.0], [-2.0], [0.75]],
    }
    assert infer(node, "branch", tensor("x", [[-1.0, -1.0]]))["y"] == [[1.0, 1.0]], "nothing of the other branch runs"
    assert infer(node, "fan", tensor("counts", [2, 0, 1], "INT64")) == {
        "sum": [10.0, 10.0],
        "rows": [[2.0, 2.0], [2.0, 2.0], [6.0, 6.0]],
    }
    assert infer(node, "fan", tensor("counts", [0], "INT64")) == {"sum": [0.0, 0.0], "rows": []}
    assert infer(node, "fan", tensor("counts", [300], "INT64"))["sum"] == [600.0, 600.0], "in batches of 64 rows"
    assert node.call("branch/predict", x=[[1, 1]]).json == {"y": [[6.0, 6.0]], "judged": [[2.0]]}
    described = node.ask("GET", "/openapi.json").json
    assert "/models/fan/predict" in described["paths"]
    assert node.ask("GET", "/v2/models/fan").json["platform"] == "setpoint_composition"
    high = node.metric("setpoint_requests_total", model="branch/high", outcome="ok")
    assert (high, node.metric("setpoint_requests_total", model="branch", outcome="ok")) == (2, 3)
    (stats,) = node.ask("GET", "/v2/models/branch/stats").json["model_stats"]
    steps = stats["steps"]
    assert (stats["inference_count"], stats["execution_count"]) == (5, 3)
    assert [one["name"] for one in steps] == ["branch/high", "branch/higher", "branch/judge", "branch/low"]


def test_rows_of_different_requests_share_the_batches_of_a_step(many: Callable[..., str], serve: Serve) -> None:
    steps = [step("split", "split.py", counts="counts"), step("nap", "nap.py", x="split.rows")]
    node = serve(many("naps", ["counts"], steps, {"y": "nap"}, {"split.py": SPLIT, "nap.py": NAP}))
    path = "/v2/models/naps/infer"
    hold = threading.Thread(target=node.ask, args=("POST", path, {"inputs": [tensor("counts", [1], "INT64")]}))
    hold.start()  # its row keeps the step busy for a second, meanwhile the rows of others come
    until(lambda: node.metric("setpoint_requests_in_flight", model="naps/nap") == 1)
    asked = [threading.Thread(target=node.ask, args=hold._args) for _ in range(4)]  # type: ignore[attr-defined]
    for thread in asked:
        thread.start()
    for thread in (hold, *asked):
        thread.join()
    buckets = {
        float(dict(labels)["le"]): value
        for labels, value in node.metrics()["setpoint_batch_rows_bucket"].items()
        if dict(labels)["model"] == "naps/nap"
    }
    assert buckets[float("inf")] - buckets[1.0] >= 1, "some batch held rows of several requests"


def test_one_request_is_one_trace_and_says_what_each_step_took(many: Callable[..., str], serve: Serve) -> None:
    steps = [step("first", "double.onnx", x="x"), step("second", "double.onnx", x="first")]
    node = serve(many("traced", ["x"], steps, {"y": "second"}, {"double.onnx": scale(2)}))
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=30)
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "x-request-id": "mine"}
    connection.request("POST", "/v2/models/traced/infer", json.dumps({"inputs": [tensor("x", [[1, 1]])]}), headers)
    response = connection.getresponse()
    said = response.read()
    timing = response.headers.get_all("server-timing")
    connection.close()
    assert (response.status, response.headers["x-request-id"]) == (200, "mine"), said
    assert TRACE in response.headers["traceresponse"]
    assert [entry.partition(";")[0] for entry in timing[0].split('", ')] == ["first", "second"]
    spans = [entry.partition("span ")[2].rstrip('"') for entry in timing[0].split('", ')]
    assert len({*spans, response.headers["traceresponse"].split("-")[2]}) == 3, "each step is a span of its own"
    assert [entry.partition(";")[0] for entry in timing[1].split(", ")] == ["queue", "run"]
    assert len(node.workers()) == 1, "steps of one model share its workers"


def test_grpc_serves_a_composition_as_any_other_model(many: Callable[..., str], serve: Serve) -> None:
    grpc = pytest.importorskip("grpc")
    from setpoint.wire.grpc import message_class

    steps = [step("first", "double.onnx", x="x"), step("second", "triple.onnx", x="first")]
    name = many("calls", ["x"], steps, {"y": "second"}, {"double.onnx": scale(2), "triple.onnx": scale(3)})
    node = serve(name, options=("--grpc-port=0",))
    request = message_class("inference.ModelInferRequest")(model_name=name)
    given = request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    given.contents.fp32_contents.extend([1.0, 2.0])
    with grpc.insecure_channel(node.announced["grpc"]) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_class("inference.ModelInferResponse").FromString,
        )
        response, told = call.with_call(request, metadata=(("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),))
        assert np.frombuffer(response.raw_output_contents[0], np.float32).tolist() == [6.0, 12.0]
        timing = [value for key, value in told.trailing_metadata() if key == "server-timing"]
        assert "first;" in timing[0]
        assert "span" in timing[0]


def test_the_failure_of_a_step_is_told_with_its_name_and_harms_nobody_else(
    many: Callable[..., str], serve: Serve
) -> None:
    node = serve(fan(many, "fails"), workers=2)
    path = "/v2/models/fails/infer"
    refused = node.ask("POST", path, {"inputs": [tensor("counts", [-1], "INT64")]})
    assert (refused.status, refused.error) == (400, "step 'split': a count is below 0")
    absurd = node.ask("POST", path, {"inputs": [tensor("counts", [5000], "INT64")]})
    assert absurd.status == 413
    assert "step 'work': 5000 rows, more than the 4096 that one request may have" in absurd.error
    assert "split;dur=" in absurd.headers["server-timing"], "also a refusal says how far it came"
    late = node.ask(
        "POST", path, {"inputs": [tensor("counts", [1], "INT64")]}, headers={"setpoint-timeout-ms": "0.001"}
    )
    assert (late.status, "deadline" in late.error) == (504, True)
    killed = node.ask("POST", path, {"inputs": [tensor("counts", [2_000_000], "INT64")]})
    assert killed.status == 503
    assert killed.error.startswith("step 'split': the worker exited with status 9")
    assert infer(node, "fails", tensor("counts", [1, 2], "INT64"))["sum"] == [10.0, 10.0]
    assert node.metric("setpoint_requests_in_flight") == 0


def test_a_steps_workers_may_be_killed_under_load_and_every_request_has_one_end(
    many: Callable[..., str], serve: Serve
) -> None:
    steps = [step("first", "double.onnx", x="x"), step("nap", "nap.py", x="first")]
    node = serve(many("killed", ["x"], steps, {"y": "nap"}, {"double.onnx": scale(2), "nap.py": NAP}), workers=2)
    answers: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            body = {"inputs": [tensor("x", [[0.005, 0.0], [0.005, 1.0]])]}
            answers.append(node.ask("POST", "/v2/models/killed/infer", body).status)

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    for enough in (10, 20, 30):
        until(lambda enough=enough: len(answers) >= enough)
        os.kill(node.workers()[0], signal.SIGKILL)
        until(lambda: len(node.workers()) == 4)
    until(lambda: len(answers) >= 60)
    stop.set()
    for client in clients:
        client.join()
    assert set(answers) <= {200, 503}
    assert answers.count(200) >= len(answers) - 12
    assert infer(node, "killed", tensor("x", [[0.0, 1.0]]))["y"] == [[0.0, 2.0]]
    assert node.metric("setpoint_requests_in_flight") == 0


def test_a_client_that_leaves_takes_its_rows_out_of_the_steps(many: Callable[..., str], serve: Serve) -> None:
    steps = [step("nap", "nap.py", x="x"), step("then", "double.onnx", x="nap")]
    node = serve(many("leaves", ["x"], steps, {"y": "then"}, {"nap.py": NAP, "double.onnx": scale(2)}))
    body = json.dumps({"inputs": [tensor("x", [[1.0, 0.0]])]})
    left = http.client.HTTPConnection("127.0.0.1", node.port)
    left.request("POST", "/v2/models/leaves/infer", body)
    until(lambda: node.metric("setpoint_requests_in_flight", model="leaves/nap") == 1)
    left.close()
    until(lambda: node.metric("setpoint_requests_total", model="leaves", outcome="cancelled") == 1)
    until(lambda: node.metric("setpoint_requests_in_flight") == 0)
    assert node.metric("setpoint_requests_offered_total", model="leaves/then") == 0, "the next step was not asked"


def test_it_drains_and_caches_as_one_model(many: Callable[..., str], serve: Serve) -> None:
    steps = [step("nap", "nap.py", x="x"), step("then", "double.onnx", x="nap")]
    node = serve(
        many("whole", ["x"], steps, {"y": "then"}, {"nap.py": NAP, "double.onnx": scale(2)}),
        options=("--cache=1MiB",),
    )
    asked = tensor("x", [[0.3, 1.0]])
    first = infer(node, "whole", asked)
    assert infer(node, "whole", asked) == first
    assert node.metric("setpoint_requests_offered_total", model="whole/nap") == 1, "the second came from the cache"
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(infer(node, "whole", tensor("x", [[1.0, 2.0]]))))
    thread.start()
    until(lambda: node.metric("setpoint_requests_in_flight", model="whole/nap") == 1)
    assert node.stop() == 0
    thread.join()
    assert results == [{"y": [[2.0, 4.0]]}], "what was accepted is answered through all its steps"


def test_a_step_that_cannot_be_loaded_is_told_before_anything_is_served(many: Callable[..., str], serve: Serve) -> None:
    steps = [step("good", "double.onnx", x="x"), step("bad", "bad.py", x="good")]
    name = many("broken", ["x"], steps, {"y": "bad"}, {"double.onnx": scale(2), "bad.py": BAD})
    node = serve.unready(name)  # type: ignore[attr-defined]
    assert node.process.wait(30) != 0
    assert "model 'broken/bad'" in node.log
    assert "no luck" in node.log
