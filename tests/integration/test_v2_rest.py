"""V2 over REST against a real node: binary tensors, compression, raw requests, and large bodies beside small ones."""

import contextlib
import gzip
import http.client
import json
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from harness import Answer, RunningNode, pack_into, start_node, until
from onnx import TensorProto, helper

BODY_LIMIT = 48 << 20
TALK = """
from collections.abc import Iterator
import setpoint as sp

class Talk(sp.Model):
    @sp.endpoint
    def say(self, prompt: str, times: int = 2) -> str:
        return " ".join([prompt] * times)

    @sp.endpoint
    def tokens(self, prompt: str, times: int = 2) -> Iterator[str]:
        for number in range(times):
            yield f"{prompt} {number}"
        if prompt == "fail":
            raise ValueError("failed")
"""


def double() -> onnx.ModelProto:
    """``y = x + x``, a row of any length."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "double",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", "columns"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", "columns"])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    folder = tmp_path_factory.mktemp("v2")
    labels = folder / "labels.txt"
    labels.write_text("cat\n\nKätzchen\n", "utf-8")
    pack_into(folder / "home", folder, double(), "double", labels=labels)
    pack_into(folder / "home", folder, TALK, "talk")
    limits = {"body_limit_bytes": BODY_LIMIT, "json_depth_limit": 20, "tensor_limit": 4, "rank_limit": 3}
    running = start_node(folder / "home", folder, "double", "talk", limits=limits).until_ready()
    yield running
    assert "bug" not in running.log
    running.end()


def binary_body(rows: np.ndarray[Any, Any], **parameters: Any) -> tuple[bytes, dict[str, str]]:
    """A request whose tensor stands behind the JSON, and its headers."""
    described = {"name": "x", "shape": list(rows.shape), "datatype": "FP32"}
    described["parameters"] = {"binary_data_size": rows.nbytes}
    head = json.dumps({"inputs": [described], "parameters": {"binary_data_output": True, **parameters}}).encode()
    return head + rows.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


def output(answer: Answer) -> np.ndarray[Any, Any]:
    """The one tensor of a binary answer."""
    assert answer.status == 200, answer.body[:500]
    json_bytes = int(answer.headers["inference-header-content-length"])
    (described,) = json.loads(answer.body[:json_bytes])["outputs"]
    assert described["parameters"]["binary_data_size"] == len(answer.body) - json_bytes
    return np.frombuffer(answer.body[json_bytes:], np.float32).reshape(described["shape"])


INFER = "/v2/models/double/infer"
ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)
IMAGE = np.random.default_rng(0).random((1, 3 * 224 * 224), np.float32)


@pytest.mark.parametrize("rows", [ROWS, IMAGE], ids=["few", "many"])
@pytest.mark.parametrize("packed", ["", "gzip", "deflate"])
@pytest.mark.parametrize("wanted", ["", "gzip", "deflate"])
def test_binary_tensors_go_there_and_back(
    node: RunningNode, rows: np.ndarray[Any, Any], packed: str, wanted: str
) -> None:
    body, headers = binary_body(rows)
    if packed:
        body = gzip.compress(body, 1) if packed == "gzip" else zlib.compress(body, 1)
        headers["content-encoding"] = packed
    if wanted:
        headers["accept-encoding"] = wanted
    answer = node.ask("POST", INFER, body, headers=headers)
    assert answer.headers["content-type"] == "application/octet-stream"
    if wanted and rows is IMAGE:
        assert answer.headers["content-encoding"] == wanted
        answer.body = gzip.decompress(answer.body) if wanted == "gzip" else zlib.decompress(answer.body)
    else:
        assert "content-encoding" not in answer.headers
    assert np.array_equal(output(answer), rows + rows)


def test_a_json_answer_is_compressed_for_who_asks(node: RunningNode) -> None:
    asked = {"inputs": [{"name": "x", "shape": [1, 1000], "datatype": "FP32", "data": [1] * 1000}]}
    answer = node.ask("POST", INFER, asked, headers={"accept-encoding": "gzip"})
    assert answer.headers["vary"] == "accept-encoding"
    assert json.loads(gzip.decompress(answer.body))["outputs"][0]["data"] == [2.0] * 1000
    assert (
        "content-encoding" not in node.ask("POST", INFER, asked, headers={"accept-encoding": "gzip, deflate"}).headers
    )


def test_json_is_read_whatever_it_is_called(node: RunningNode) -> None:
    """aiohttp, and with it tritonclient's asyncio client, calls every body of bytes an octet stream."""
    asked = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}
    for kind in ("application/octet-stream", "application/x-www-form-urlencoded", "text/plain"):
        answer = node.ask("POST", INFER, json.dumps(asked).encode(), headers={"content-type": kind})
        assert answer.json["outputs"][0]["data"] == [2.0]


def test_a_raw_tensor_is_answered_raw(node: RunningNode) -> None:
    answer = node.ask("POST", INFER, ROWS[0].tobytes(), headers={"Inference-Header-Content-Length": "0"})
    assert np.array_equal(output(answer), ROWS[:1] * 2)


def test_a_bomb_is_refused(node: RunningNode) -> None:
    bomb = gzip.compress(bytes(BODY_LIMIT + 1), 9)
    answer = node.ask("POST", INFER, bomb, headers={"content-encoding": "gzip"})
    assert answer.status == 413
    assert f"decompresses to more than the limit of {BODY_LIMIT} bytes" in answer.error


def test_unpacked_bodies_count_towards_what_all_may_hold(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A kilobyte would otherwise buy a megabyte of the node's memory, for as long as its request waits."""
    folder = tmp_path_factory.mktemp("held")
    pack_into(folder / "home", folder, double(), "double")
    small = start_node(folder / "home", folder, "double", limits={"bodies_limit_bytes": 4 << 20}).until_ready()
    try:
        for columns, status in ((1_200_000, 503), *[(600_000, 200)] * 4, (1_200_000, 503)):
            body, headers = binary_body(np.zeros((1, columns), np.float32))
            headers["content-encoding"] = "gzip"
            answer = small.ask("POST", INFER, gzip.compress(body, 1), headers=headers)
            assert answer.status == status, answer.body[:200]
            assert status == 200 or "larger than the node's limit" in answer.error
    finally:
        small.end()


def test_time_in_the_request_ends_its_waiting(node: RunningNode) -> None:
    body, headers = binary_body(IMAGE, timeout=1)
    answer = node.ask("POST", INFER, body, headers=headers)
    assert answer.status == 504
    assert node.ask("POST", INFER, *_with(binary_body(ROWS, timeout=30_000_000, priority=1))).status == 200


def _with(body_and_headers: tuple[bytes, dict[str, str]]) -> tuple[bytes, float, dict[str, str]]:
    body, headers = body_and_headers
    return body, 30.0, headers


def test_others_are_answered_while_large_bodies_are_unpacked(node: RunningNode) -> None:
    """48 MiB take a fifth of a second or more: as one piece, no small request would end within it."""
    bomb = gzip.compress(bytes(BODY_LIMIT), 9)
    body, headers = binary_body(ROWS)
    unpacking = [
        threading.Thread(target=node.ask, args=("POST", INFER, bomb), kwargs={"headers": {"content-encoding": "gzip"}})
        for _ in range(4)
    ]
    answered_meanwhile = 0
    for thread in unpacking:
        thread.start()
    while any(thread.is_alive() for thread in unpacking):
        assert np.array_equal(output(node.ask("POST", INFER, body, headers=headers)), ROWS * 2)
        answered_meanwhile += 1
    assert answered_meanwhile >= 8


@pytest.mark.parametrize("nested", [False, True])
def test_a_tensor_of_ten_mebibytes_of_json_is_read(node: RunningNode, nested: bool) -> None:
    rows = np.random.default_rng(2).random((4, 150_528), np.float32)
    described = {"name": "x", "shape": list(rows.shape), "datatype": "FP32"}
    described["data"] = rows.tolist() if nested else rows.reshape(-1).tolist()
    body = json.dumps({"inputs": [described], "parameters": {"binary_data_output": True}}).encode()
    assert len(body) > 10 << 20
    assert np.array_equal(output(node.ask("POST", INFER, body)), rows * 2)


def test_other_json_keeps_its_limit(node: RunningNode) -> None:
    described = {"name": "x", "shape": [1, 2_000_000], "datatype": "FP32", "data": [None] * 2_000_000}
    answer = node.ask("POST", INFER, {"inputs": [described]})
    assert answer.status == 413
    assert "--max-json" in answer.error


def test_what_a_request_may_hold_has_limits_that_say_their_name(node: RunningNode) -> None:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    deep: Any = 0
    for _ in range(200):
        deep = [deep]
    for request, status, limit in (
        ({"inputs": [tensor], "unknown": deep}, 400, "json_depth_limit"),
        ({"inputs": [tensor] * 5}, 413, "tensor_limit"),
        ({"inputs": [tensor | {"shape": [1, 1, 1, 2]}]}, 400, "rank_limit"),
        ({"inputs": [tensor | {"shape": [1 << 20, 1 << 10]}]}, 413, "element_limit"),
    ):
        answer = node.ask("POST", INFER, request)
        assert (answer.status, limit in answer.error) == (status, True), answer.error
    native = node.ask("POST", "/models/double/predict", {"x": [[1.0]], "unknown": deep})
    assert (native.status, "json_depth_limit" in native.error) == (400, True)
    assert node.ask("POST", INFER, {"inputs": [tensor]}).status == 200


def test_classes_are_called_by_their_labels(node: RunningNode) -> None:
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 4, 3]}
    outputs = [{"name": "y", "parameters": {"classification": 4}}]
    (output,) = node.ask("POST", INFER, {"inputs": [tensor], "outputs": outputs}).json["outputs"]
    assert output["data"] == ["8.000000:2:Kätzchen", "6.000000:3", "4.000000:1", "2.000000:0:cat"]


def test_a_client_that_leaves_while_its_body_is_unpacked_is_forgotten(node: RunningNode) -> None:
    bomb = gzip.compress(bytes(BODY_LIMIT), 9)
    for _ in range(3):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", node.port, timeout=10)) as connection:
            connection.request("POST", INFER, bomb, {"content-encoding": "gzip"})
            time.sleep(0.02)
    until(lambda: node.metric("setpoint_http_in_flight") <= 1, what="nothing is in flight")
    body, headers = binary_body(ROWS)
    assert np.array_equal(output(node.ask("POST", INFER, body, headers=headers)), ROWS * 2)


def test_statistics_count_what_was_answered(node: RunningNode) -> None:
    def counted() -> dict[str, Any]:
        everything = node.ask("GET", "/v2/models/stats").json["model_stats"]
        assert [entry["name"] for entry in everything] == ["double", "talk"]
        for path in ("/v2/models/double/stats", "/v2/models/double/versions/1/stats"):
            (entry,) = node.ask("GET", path).json["model_stats"]
            assert entry["inference_count"] == everything[0]["inference_count"]
        return everything[0]

    before = counted()
    for _ in range(5):
        assert output(node.ask("POST", INFER, *_with(binary_body(ROWS)))).shape == ROWS.shape
    after = counted()
    assert after["inference_count"] - before["inference_count"] == 5 * len(ROWS)
    assert after["execution_count"] - before["execution_count"] == 5
    for stage in ("success", "queue", "compute_infer"):
        assert after["inference_stats"][stage]["count"] - before["inference_stats"][stage]["count"] == 5
        assert after["inference_stats"][stage]["ns"] > before["inference_stats"][stage]["ns"]
    assert abs(after["last_inference"] / 1000 - time.time()) < 60
    assert after["setpoint"]["last_60s"]["in_time"] >= 5


def test_the_configuration_and_the_metadata_agree_on_the_batch_axis(node: RunningNode) -> None:
    config = node.ask("GET", "/v2/models/double/config").json
    assert config["max_batch_size"] > 0
    assert config["input"][0]["dims"] == [-1]
    assert node.ask("GET", "/v2/models/double").json["inputs"][0]["shape"] == [-1, -1]
    assert node.ask("GET", "/v2/models/double/versions/1/config").json == config
    assert "statistics" in node.ask("GET", "/v2").json["extensions"]


def test_text_is_generated_whole(node: RunningNode) -> None:
    asked = {"text_input": "so", "id": "7", "parameters": {"times": 3, "temperature": 0.5}, "stream": False}
    answer = node.ask("POST", "/v2/models/talk/generate", asked)
    assert answer.json == {"id": "7", "model_name": "talk", "model_version": "1", "text_output": "so so so"}
    assert node.ask("POST", "/v2/models/talk/generate", {"text_input": 1}).status == 400
    assert (
        "times: expected int"
        in node.ask("POST", "/v2/models/talk/generate", asked | {"parameters": {"times": "a"}}).error
    )


def test_text_is_generated_in_pieces(node: RunningNode) -> None:
    def stream(**asked: Any) -> list[dict[str, Any]]:
        answer = node.ask("POST", "/v2/models/talk/versions/1/generate_stream", asked)
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        *events, rest = answer.body.decode().split("\n\n")
        assert rest == ""
        return [json.loads(event.removeprefix("data: ")) for event in events]

    assert [event["text_output"] for event in stream(text_input="so", times=3)] == ["so 0", "so 1", "so 2"]
    *pieces, last = stream(text_input="fail")
    assert len(pieces) == 2
    assert "failed" in last["error"]
    for path in ("generate", "generate_stream"):
        refused = node.ask("POST", f"/v2/models/double/{path}", {"text_input": "so"})
        assert refused.status == 400
        assert "has no endpoint that takes one text" in refused.error
