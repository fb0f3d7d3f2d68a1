"""The response cache of a running node: what clients of every protocol see of it, and what a shared Redis adds."""

from __future__ import annotations

import http.client
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
from harness import RunningNode, until
from onnx import TensorProto, helper
from redis_server import RedisServer

COUNTING = '''
import time
from pathlib import Path

import setpoint as sp


class Counting(sp.Model):
    """Says how often it was asked."""

    @sp.endpoint(batch=8)
    def count(self, texts: list[str]) -> list[str]:
        log = Path(LOG)
        if any(text.startswith("slow") for text in texts):
            time.sleep(0.5)
        if any(text == "bad" for text in texts):
            raise RuntimeError("bad text")
        with log.open("a") as file:
            file.writelines(f"{text}\\n" for text in texts)
        return [f"{text} {log.read_text().splitlines().count(text)}" for text in texts]

    @sp.endpoint
    def stream(self, text: str) -> "Iterator[str]":
        yield text
'''.replace("import time\n", "import time\nfrom collections.abc import Iterator\n")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.stop()


def doubler() -> onnx.ModelProto:
    """y = x + x, rows of two."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture
def counting(pack: Callable[..., str], tmp_path: Path) -> str:
    return pack(COUNTING.replace("LOG", repr(str(tmp_path / "asked.log"))), "counting")


def cache(node: RunningNode, result: str) -> float:
    return node.metric("setpoint_cache_requests_total", result=result)


def test_one_run_answers_json_binary_and_native_clients(pack, serve) -> None:
    node = serve(pack(doubler()), options=["--cache", "1MiB"])
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2]}
    first = node.ask("POST", "/v2/models/model/infer", {"inputs": [tensor]})
    assert first.json["outputs"][0]["data"] == [3.0, 4.0]
    again = node.ask("POST", "/v2/models/model/infer", {"id": "7", "inputs": [tensor], "outputs": [{"name": "y"}]})
    assert (again.json["id"], again.json["outputs"]) == ("7", first.json["outputs"])
    (endpoint,) = [path for _, path in routes(node) if path.startswith("/models/")]
    assert node.ask("POST", endpoint, {"x": [[1.5, 2.0]]}).json == {"y": [[3.0, 4.0]]}
    head = json.dumps(
        {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}],
            "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
        }
    ).encode()
    headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    binary = node.ask("POST", "/v2/models/model/infer", head + struct.pack("<2f", 1.5, 2.0), headers=headers)
    assert struct.unpack("<2f", binary.body[-8:]) == (3.0, 4.0)
    assert (cache(node, "miss"), cache(node, "hit")) == (1, 3)
    assert node.metric("setpoint_batch_rows_count") == 1
    assert node.outcomes() == {"ok": 4}
    assert node.metric("setpoint_cache_entries") == 1


def routes(node: RunningNode) -> list[tuple[str, str]]:
    paths = node.ask("GET", "/openapi.json").json["paths"]
    return [(method, path) for path, methods in paths.items() for method in methods]


def test_identical_requests_at_the_same_time_run_once(counting, serve) -> None:
    node = serve(counting, options=["--cache", "1MiB"])
    answers = node.call_all("counting/count", [{"texts": ["slow"]}] * 12)
    assert [answer.json for answer in answers] == [["slow 1"]] * 12
    assert cache(node, "miss") == 1
    assert cache(node, "coalesced") + cache(node, "hit") == 11
    assert cache(node, "coalesced") >= 1
    assert node.outcomes() == {"ok": 12}


def test_who_leaves_does_not_take_the_answer_along(counting, serve) -> None:
    node = serve(counting, options=["--cache", "1MiB"])
    body = json.dumps({"texts": ["slow"]})
    leader = http.client.HTTPConnection("127.0.0.1", node.port)
    leader.request("POST", "/models/counting/count", body, {"content-type": "application/json"})
    until(lambda: cache(node, "miss") == 1)
    follower = http.client.HTTPConnection("127.0.0.1", node.port)
    follower.request("POST", "/models/counting/count", body, {"content-type": "application/json"})
    until(lambda: node.metric("setpoint_requests_accepted_total") == 2)
    leader.close()
    assert json.loads(follower.getresponse().read()) == ["slow 1"]
    follower.close()
    assert node.call("counting/count", texts=["slow"]).json == ["slow 1"]
    until(lambda: node.outcomes() == {"ok": 2, "cancelled": 1})


def test_failures_and_streams_are_not_kept_and_another_tenant_asks_for_itself(counting, serve) -> None:
    node = serve(counting, options=["--cache", "1MiB"])
    for _ in range(2):
        assert node.call("counting/count", texts=["bad"]).status == 500
        assert b"x" in node.ask("POST", "/models/counting/stream", {"text": "x"}).body
    assert cache(node, "miss") == 2

    def ask(tenant: str) -> list[str]:
        return node.ask("POST", "/models/counting/count", {"texts": ["a"]}, headers={"setpoint-tenant": tenant}).json

    assert (ask("one"), ask("other"), ask("one")) == (["a 1"], ["a 2"], ["a 1"])


def test_without_the_option_every_request_runs(counting, serve) -> None:
    node = serve(counting)
    assert [node.call("counting/count", texts=["a"]).json for _ in range(2)] == [["a 1"], ["a 2"]]
    assert "setpoint_cache_requests_total" not in node.metrics()


def test_nodes_share_answers_through_redis(counting, serve, redis: RedisServer) -> None:
    options = ["--cache-url", redis.url, "--cache", "1MiB"]
    one, other = serve(counting, options=options), serve(counting, options=options)
    # Until its first connection stands, a node does without.
    until(lambda: one.call("counting/count", texts=["a"]).json and redis.keys(), what="an answer is written")
    known = one.call("counting/count", texts=["a"]).json
    assert other.call("counting/count", texts=["a"]).json == known
    assert (cache(other, "shared_hit"), cache(other, "miss"), cache(other, "hit")) == (1, 0, 0)
    assert other.call("counting/count", texts=["a"]).json == known
    assert cache(other, "hit") == 1, "from its own memory now"
    redis.freeze()
    assert [one.call("counting/count", texts=[f"b{n}"]).status for n in range(8)] == [200] * 8
    assert one.metric("setpoint_cache_shared_store_total", event="failure") >= 1
    assert one.metric("setpoint_cache_shared_store_total", event="skipped") >= 1
    assert one.stop() == other.stop() == 0


def test_a_node_starts_and_answers_where_there_is_no_redis(counting, serve) -> None:
    pytest.importorskip("redis")
    node = serve(counting, options=["--cache-url", "redis://127.0.0.1:1", "--cache", "1KiB"])
    assert [node.call("counting/count", texts=["a"]).json for _ in range(5)] == [[f"a {n}"] for n in range(1, 6)]
    assert node.stop() == 0


def test_impossible_terms_are_told_before_anything_starts(counting, serve) -> None:
    node = serve.unready(counting, options=["--cache-url", "memcached://x"])
    assert node.process.wait(60) == 2
    assert "redis://" in node.log
