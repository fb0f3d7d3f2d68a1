"""The node holds an objective: real workers, real clients, more asked for than can be done."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from harness import Answer, RunningNode, until
from onnx import TensorProto, helper, numpy_helper

from setpoint.core import (
    FREE,
    Endpoint,
    LatencyPoint,
    Lineage,
    ModelManifest,
    Profile,
    Signature,
    TensorSpec,
    Variant,
)
from setpoint.formats import PackedModel
from setpoint.machine import engine_fingerprint
from setpoint.registry import Registry

WIDTH = 256
SLEEPER = """
import time
import setpoint as sp

class Sleeper(sp.Model):
    @sp.endpoint(batch=4)
    def double(self, xs: list[int]) -> list[int]:
        time.sleep(0.03)
        return [2 * x for x in xs]
"""


def chain(length: int, answer: float) -> onnx.ModelProto:
    """A network whose time is in so many matrix products, and whose answer says which network it was."""
    weights = np.random.default_rng(0).standard_normal((WIDTH, WIDTH)).astype(np.float32) / 32
    nodes, last = [], "x"
    for step in range(length):
        nodes += [
            helper.make_node("MatMul", [last, "w"], [f"m{step}"]),
            helper.make_node("Relu", [f"m{step}"], [f"r{step}"]),
        ]
        last = f"r{step}"
    nodes += [
        helper.make_node("ReduceMean", [last], ["mean"], axes=[1]),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "answer"], ["y"]),
    ]
    constants = {"w": weights, "zero": np.zeros(1, np.float32), "answer": np.full(1, answer, np.float32)}
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def profile(variant: str, row_ms: float) -> Profile:
    points = tuple(LatencyPoint(rows, row_ms * rows, row_ms * rows, row_ms * rows, 50) for rows in (1, 2, 4, 8))
    return Profile(variant, 1, engine_fingerprint("onnxruntime"), points, 0, 1.0, 1.0)


@pytest.fixture
def two_variants(home: Path, tmp_path: Path) -> str:
    """A bundle with a slow exact variant (answers 1) and a quick one (answers 2) that keeps 99 % of its accuracy."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    onnx.save(chain(1000, 1.0), folder / "exact.onnx")
    onnx.save(chain(4, 2.0), folder / "quick.onnx")
    files = {path.name: path for path in folder.iterdir()}
    signature = Signature(
        (TensorSpec("x", "FP32", (FREE, WIDTH)),), (TensorSpec("y", "FP32", (FREE, 1)),), batched=True
    )
    manifest = ModelManifest(
        endpoints=(Endpoint("predict", (), {}, batch_rows=16, signature=signature),),
        variants=(
            Variant("exact", "onnxruntime", "exact.onnx"),
            Variant("quick", "onnxruntime", "quick.onnx", accuracy=0.99),
        ),
        lineage=Lineage("onnx", "sha256:0"),
        profiles=(profile("exact", 8.0), profile("quick", 0.2)),
    )
    return Registry(home).add(PackedModel(manifest, files, "chain"), "chain")[0].name


def infer(node: RunningNode, **headers: str) -> Answer:
    body = {"inputs": [{"name": "x", "shape": [1, WIDTH], "datatype": "FP32", "data": [0.5] * WIDTH}]}
    return node.ask("POST", "/v2/models/chain/infer", body, headers=headers)


def ask_from(clients: int, ask: Callable[[], Answer], each: int) -> list[Answer]:
    with ThreadPoolExecutor(clients) as pool:
        return [
            answer for answers in pool.map(lambda _: [ask() for _ in range(each)], range(clients)) for answer in answers
        ]


def check_variant(answer: Answer) -> str:
    variant = answer.headers["setpoint-variant"]
    assert answer.json["outputs"][0]["data"] == [{"exact": 1.0, "quick": 2.0}[variant]]
    return variant


def test_load_brings_in_the_cheaper_variant_and_every_answer_says_which_made_it(
    two_variants: str, serve: Callable[..., RunningNode]
) -> None:
    node = serve(two_variants, options=("--objective", "p99<=120ms, drop<=2%"))
    assert {check_variant(infer(node)) for _ in range(5)} == {"exact"}
    answers = ask_from(64, lambda: infer(node), 6)  # 3 ms a row at the very best, so 64 at once are too many
    seen = Counter(check_variant(answer) for answer in answers if answer.status == 200)
    assert seen["quick"] > 0
    assert {answer.status for answer in answers} <= {200, 503, 504}
    assert len(answers) == 64 * 6


def test_what_may_not_lose_accuracy_is_answered_by_the_original_whatever_the_load(
    two_variants: str, serve: Callable[..., RunningNode]
) -> None:
    node = serve(two_variants, options=("--objective", "p99<=120ms"))
    answers = ask_from(16, lambda: infer(node), 4)
    assert {check_variant(answer) for answer in answers if answer.status == 200} == {"exact"}


def test_beyond_what_can_be_held_requests_are_refused_with_the_rate_and_when_to_come_again(
    pack: Callable[..., str], serve: Callable[..., RunningNode]
) -> None:
    node = serve(pack(SLEEPER), options=("--objective", "p99<=100ms"))
    name = node.announced["models"][0]["name"]
    answers = ask_from(32, lambda: node.call(f"{name}/double", xs=[1]), 12)
    refused = [answer for answer in answers if answer.status in (503, 504)]
    assert {answer.status for answer in answers} <= {200, 503, 504}
    assert refused
    assert all(int(answer.headers["retry-after-ms"]) >= 1 and answer.headers["retry-after"] for answer in refused)
    overloaded = [answer.error for answer in refused if "rows/s are answered in time" in answer.error]
    assert overloaded, Counter(answer.error for answer in refused)
    answered = sum(answer.status == 200 for answer in answers)
    outcomes = node.outcomes()
    assert outcomes["ok"] == answered


def test_a_client_s_own_deadline_is_kept_or_refused_before_it_is_computed(
    pack: Callable[..., str], serve: Callable[..., RunningNode]
) -> None:
    node = serve(pack(SLEEPER), options=("--objective", "p99<=500ms"))
    route = f"/models/{node.announced['models'][0]['name']}/double"
    for _ in range(10):
        assert node.ask("POST", route, {"xs": [1]}).status == 200

    def impatient() -> Answer:
        return node.ask("POST", route, {"xs": [1]}, headers={"setpoint-timeout-ms": "5"})

    until(lambda: impatient().status == 504, what="5 ms are known to be too short for a run of 30 ms")
    answer = impatient()
    assert answer.status == 504
    assert "longer than its deadline leaves" in answer.error
    assert node.ask("POST", route, {"xs": [1]}, headers={"setpoint-timeout-ms": "soon"}).status == 400
    assert node.ask("POST", route, {"xs": [1]}, headers={"setpoint-timeout-ms": "400"}).status == 200


def test_a_tenant_beyond_its_share_is_told_so_and_the_other_one_is_served(
    pack: Callable[..., str], serve: Callable[..., RunningNode]
) -> None:
    node = serve(pack(SLEEPER), options=("--objective", "p99<=150ms"))
    route = f"/models/{node.announced['models'][0]['name']}/double"
    enough = threading.Event()

    def greedy() -> Counter[int]:
        seen: Counter[int] = Counter()
        while not enough.is_set():
            seen[node.ask("POST", route, {"xs": [1]}, headers={"setpoint-tenant": "greedy"}).status] += 1
        return seen

    with ThreadPoolExecutor(40) as pool:
        crowd = [pool.submit(greedy) for _ in range(39)]
        until(lambda: node.metric("setpoint_requests_total", outcome="ok") > 50)
        modest = [node.ask("POST", route, {"xs": [1]}, headers={"setpoint-tenant": "modest"}) for _ in range(60)]
        enough.set()
    seen = sum((each.result() for each in crowd), Counter())
    assert seen.keys() <= {200, 429, 503, 504}
    assert seen[429] > 0
    served = sum(answer.status == 200 for answer in modest) / len(modest)
    assert served > seen[200] / seen.total()


def test_a_policy_stated_by_hand_is_kept_to_exactly(
    pack: Callable[..., str], serve: Callable[..., RunningNode]
) -> None:
    options = ("--max-batch-size", "2", "--max-queue-size", "8")
    node = serve(pack(SLEEPER), options=options)
    route = f"{node.announced['models'][0]['name']}/double"
    answers = node.call_all(route, [{"xs": [number]} for number in range(40)])
    answered = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status == 503]
    assert len(answered) + len(refused) == 40
    assert refused
    assert all("limit 8" in answer.error for answer in refused)
    assert node.batches_up_to(2) == node.metric("setpoint_batch_rows_count")
