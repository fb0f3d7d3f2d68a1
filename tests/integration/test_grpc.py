"""The Open Inference Protocol over gRPC: a real node, and channels of gRPC's own library."""

import gzip
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from harness import RunningNode, until
from onnx import TensorProto, helper

from setpoint.wire.grpc import message_class

SERVICE = "inference.GRPCInferenceService"
GRPC = ("--grpc-port=0",)
NAPS = """
import time
import setpoint as sp

class Naps(sp.Model):
    def load(self, context):
        self.runs = 0

    @sp.endpoint(batch=1)
    def nap(self, seconds: list[float]) -> list[float]:
        time.sleep(seconds[0])
        self.runs += 1
        return [float(self.runs)]
"""
NO_TENSORS = """
import setpoint as sp

class Words(sp.Model):
    @sp.endpoint
    def count(self, text: str) -> dict[str, int]:
        return {"words": len(text.split())}
"""


def twice() -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"]), helper.make_node("Neg", ["x"], ["z"])],
        "twice",
        [value("x", TensorProto.FLOAT, ["n", 4])],
        [value("y", TensorProto.FLOAT, ["n", 4]), value("z", TensorProto.FLOAT, ["n", 4])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


class Client:
    """Calls by name; messages of the node's own pool, which protobuf reads and writes and not the node's codec."""

    def __init__(self, target: str, **options: Any) -> None:
        self.channel = grpc.insecure_channel(target, [("grpc.max_receive_message_length", -1), *options.items()])

    def call(self, name: str, /, timeout: float | None = 20, metadata: Any = (), **fields: Any) -> Any:
        return self.method(name)(message_class(f"inference.{name}Request")(**fields), timeout, metadata)

    def method(self, name: str) -> Any:
        return self.channel.unary_unary(
            f"/{SERVICE}/{name}",
            lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            message_class(f"inference.{name}Response").FromString,
        )

    def stream(self) -> Any:
        return self.channel.stream_stream(
            f"/{SERVICE}/ModelStreamInfer",
            lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            message_class("inference.ModelStreamInferResponse").FromString,
        )

    def infer(self, model: str, array: np.ndarray, name: str = "x", **options: Any) -> np.ndarray:
        answer = self.method("ModelInfer")(ask(model, array, name), options.pop("timeout", 20), **options)
        return np.frombuffer(answer.raw_output_contents[0], array.dtype).reshape(tuple(answer.outputs[0].shape))


def ask(model: str, array: np.ndarray, name: str = "x", request_id: str = "") -> Any:
    message = message_class("inference.ModelInferRequest")(model_name=model, id=request_id)
    datatype = {"float32": "FP32", "float64": "FP64"}[array.dtype.name]
    message.inputs.add(name=name, datatype=datatype, shape=array.shape)
    message.raw_input_contents.append(array.tobytes())
    return message


def seconds(value: float) -> np.ndarray:
    return np.array([value], np.float64)


def failed(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    return error.code(), error.details()


ROW = np.arange(4, dtype=np.float32).reshape(1, 4)


@pytest.fixture
def connect() -> Iterator[Callable[[RunningNode], Client]]:
    clients: list[Client] = []

    def open_channel(node: RunningNode, **options: Any) -> Client:
        clients.append(Client(node.announced["grpc"], **options))
        return clients[-1]

    yield open_channel
    for client in clients:
        client.channel.close()


def test_a_model_answers_as_it_does_over_rest(pack, serve, connect):
    node = serve(pack(twice()), options=GRPC)
    client = connect(node)
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    answer = client.method("ModelInfer")(ask("model", rows, request_id="7"))
    assert (answer.model_name, answer.model_version, answer.id) == ("model", "1", "7")
    assert [(output.name, output.datatype, tuple(output.shape)) for output in answer.outputs] == [
        ("y", "FP32", (3, 4)),
        ("z", "FP32", (3, 4)),
    ]
    y, z = (np.frombuffer(raw, np.float32).reshape(3, 4) for raw in answer.raw_output_contents)
    np.testing.assert_array_equal(y, rows * 2)
    np.testing.assert_array_equal(z, -rows)

    rest = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [3, 4], "data": rows.tolist()}]}
    assert node.ask("POST", "/v2/models/model/infer", rest).json["outputs"][0]["data"] == y.reshape(-1).tolist()
    assert node.outcomes() == {"ok": 2}


def test_an_answer_is_followed_by_what_rest_says_in_headers(pack, serve, connect):
    node = serve(pack(twice()), options=GRPC)
    _, call = connect(node).method("ModelInfer").with_call(ask("model", ROW), 20)
    trailers = dict(call.trailing_metadata())
    rest = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": ROW.tolist()}]}
    headers = node.ask("POST", "/v2/models/model/infer", rest).headers
    for name in ("setpoint-model", "setpoint-variant"):
        assert trailers[name] == headers[name]
    assert re.fullmatch(r"queue;dur=[\d.]+, run;dur=[\d.]+", trailers["server-timing"])


def test_a_node_says_what_it_is_and_what_it_serves(pack, serve, connect):
    client = connect(serve(pack(twice()), options=GRPC))
    assert client.call("ServerLive").live
    assert client.call("ServerReady").ready
    assert client.call("ModelReady", name="model").ready
    assert client.call("ModelReady", name="model", version="1").ready
    assert not client.call("ModelReady", name="model", version="2").ready
    assert not client.call("ModelReady", name="other").ready
    assert client.call("ServerMetadata").name == "setpoint"
    metadata = client.call("ModelMetadata", name="model")
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("model", ["1"], "onnxruntime_onnx")
    assert [(each.name, each.datatype, list(each.shape)) for each in metadata.inputs] == [("x", "FP32", [-1, 4])]


def test_configuration_and_statistics_are_those_of_rest(pack, serve, connect):
    node = serve(pack(twice()), pack(NAPS, "naps"), options=GRPC)
    client = connect(node)
    client.infer("model", np.concatenate([ROW, ROW]))
    config, rest = client.call("ModelConfig", name="model").config, node.ask("GET", "/v2/models/model/config").json
    assert (config.name, config.max_batch_size) == ("model", rest["max_batch_size"])
    assert [(each.name, list(each.dims)) for each in config.input] == [("x", [4])]
    assert config.input[0].data_type == message_class("inference.ModelInput")(data_type="TYPE_FP32").data_type
    (found,) = client.call("ModelStatistics", name="model").model_stats
    (entry,) = node.ask("GET", "/v2/models/model/stats").json["model_stats"]
    assert (
        (found.inference_count, found.execution_count) == (entry["inference_count"], entry["execution_count"]) == (2, 1)
    )
    assert found.inference_stats.compute_infer.ns == entry["inference_stats"]["compute_infer"]["ns"] > 0
    assert [(each.batch_size, each.compute_infer.count) for each in found.batch_stats] == [(2, 1)]
    assert {each.name for each in client.call("ModelStatistics").model_stats} == {"model", "naps"}
    for name in ("ModelConfig", "ModelStatistics"):
        with pytest.raises(grpc.RpcError) as error:
            client.call(name, name="nothing")
        assert error.value.code() is grpc.StatusCode.NOT_FOUND


def test_mistakes_have_the_status_and_the_words_that_say_what_to_do(pack, serve, connect):
    node = serve(pack(twice()), pack(NO_TENSORS, "words"), options=GRPC, limits={"json_limit_bytes": 1000})
    client = connect(node)

    def refused(message: Any, name: str = "ModelInfer") -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as error:
            client.method(name)(message, timeout=20)
        assert dict(error.value.trailing_metadata())["setpoint-error"]
        return failed(error.value)

    wrong_shape = ask("model", np.zeros((1, 3), np.float32))
    code, words = refused(wrong_shape)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert words == "input 'x' has shape [1, 3], the model takes [-1, 4] (-1: up to 2147483647)"
    code, words = refused(ask("modle", ROW))
    assert code is grpc.StatusCode.NOT_FOUND
    assert words == "no model is called 'modle'; this node serves model, words"
    versioned = ask("model", ROW)
    versioned.model_version = "2"
    assert refused(versioned)[0] is grpc.StatusCode.NOT_FOUND
    code, words = refused(ask("words", ROW))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "/models/words/count" in words
    assert refused(b"\xff\xff")[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert refused(b"\x0a\xff", "ModelMetadata")[0] is grpc.StatusCode.INVALID_ARGUMENT
    typed = message_class("inference.ModelInferRequest")(model_name="model")
    typed.inputs.add(name="x", datatype="FP32", shape=[100, 4]).contents.fp32_contents.extend([0.0] * 400)
    assert refused(typed)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(grpc.RpcError) as unknown:
        client.channel.unary_unary(f"/{SERVICE}/NoSuchCall")(b"", timeout=20)
    assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "Traceback" not in node.log


def test_large_tensors_up_to_the_body_limit(pack, serve, connect):
    client = connect(serve(pack(twice()), options=GRPC))
    rows = np.random.default_rng(0).random((1_500_000, 4), np.float32)
    np.testing.assert_array_equal(client.infer("model", rows), rows * 2)
    with pytest.raises(grpc.RpcError) as error:
        client.infer("model", np.zeros((4_400_000, 4), np.float32))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    np.testing.assert_array_equal(client.infer("model", ROW), ROW * 2)


def test_a_compressed_message_is_limited_by_what_is_in_it(pack, serve, connect):
    node = serve(pack(twice()), options=GRPC, limits={"body_limit_bytes": 100_000})
    client = connect(node)
    zeros = np.zeros((100_000, 4), np.float32)
    assert len(gzip.compress(zeros.tobytes())) < 10_000
    with pytest.raises(grpc.RpcError) as error:
        client.infer("model", zeros, compression=grpc.Compression.Gzip)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    np.testing.assert_array_equal(client.infer("model", ROW, compression=grpc.Compression.Gzip), ROW * 2)


def test_a_cancelled_call_is_taken_out_of_the_queue(pack, serve, connect):
    node = serve(pack(NAPS), options=GRPC)
    client = connect(node)
    call = client.method("ModelInfer")
    running = call.future(ask("model", seconds(1.0), "seconds"))
    until(lambda: node.metric("setpoint_requests_accepted_total") == 1)
    waiting = call.future(ask("model", seconds(0.0), "seconds"))
    until(lambda: node.metric("setpoint_requests_accepted_total") == 2)
    waiting.cancel()
    until(lambda: node.outcomes().get("cancelled") == 1)
    assert not running.done(), "the queue was left while the worker was busy"
    assert running.result().raw_output_contents[0] == seconds(1.0).tobytes()
    assert client.infer("model", seconds(0.0), "seconds")[0] == 2.0, "the cancelled one was never run"


def test_clients_that_leave_at_any_moment_leave_nothing_behind(pack, serve, connect):
    node = serve(pack(twice()), options=GRPC)
    client = connect(node)
    call = client.method("ModelInfer")
    rows = np.ones((50, 4), np.float32)
    for _ in range(15):
        futures = [call.future(ask("model", rows), timeout=20) for _ in range(40)]
        for number, future in enumerate(futures):
            if number % 3:
                future.cancel()
        for future in futures[::3]:
            assert future.code() is grpc.StatusCode.OK
    until(lambda: node.metric("setpoint_requests_in_flight") == 0)
    assert sum(node.outcomes().values()) == node.metric("setpoint_requests_accepted_total")
    assert node.outcomes().keys() <= {"ok", "cancelled"}
    assert "bug" not in node.log


def test_a_deadline_of_grpc_is_the_requests_own(pack, serve, connect):
    node = serve(pack(NAPS), options=GRPC)
    client = connect(node)
    running = client.method("ModelInfer").future(ask("model", seconds(1.5), "seconds"))
    until(lambda: node.metric("setpoint_requests_accepted_total") == 1)
    with pytest.raises(grpc.RpcError) as error:
        client.infer("model", seconds(0.0), "seconds", timeout=0.3)
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    until(lambda: node.outcomes().keys() & {"cancelled", "deadline_exceeded"})
    running.result()
    assert client.infer("model", seconds(0.0), "seconds")[0] == 2.0


@pytest.mark.parametrize("stated", ["parameter", "metadata"])
def test_a_timeout_stated_in_the_request_is_held(pack, serve, connect, stated):
    node = serve(pack(NAPS), options=GRPC)
    client = connect(node)
    running = client.method("ModelInfer").future(ask("model", seconds(1.5), "seconds"))
    until(lambda: node.metric("setpoint_requests_accepted_total") == 1)
    message = ask("model", seconds(0.0), "seconds")
    metadata = []
    if stated == "parameter":
        message.parameters["timeout"].int64_param = 200_000
    else:
        metadata = [("setpoint-timeout-ms", "200")]
    with pytest.raises(grpc.RpcError) as error:
        client.method("ModelInfer")(message, timeout=20, metadata=metadata)
    code, words = failed(error.value)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert words
    assert not running.done()
    running.result()


def test_refusals_say_when_to_come_back(pack, serve, connect):
    node = serve(pack(NAPS), options=GRPC, limits={"queue_limit_rows": 1})
    client = connect(node)
    call = client.method("ModelInfer")
    futures = [call.future(ask("model", seconds(0.5), "seconds"), timeout=20) for _ in range(8)]
    codes = [future.code() for future in futures]
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    refused = futures[codes.index(grpc.StatusCode.UNAVAILABLE)]
    trailers = dict(refused.trailing_metadata())
    assert int(trailers["retry-after-ms"]) > 0
    assert trailers["setpoint-error"] in ("queue_full", "overloaded")


# --- streams --------------------------------------------------------------------------------------------------------


def test_a_stream_answers_in_order_and_goes_on_after_a_mistake(pack, serve, connect):
    client = connect(serve(pack(twice()), workers=2, options=GRPC))
    messages = [ask("model", ROW + number, request_id=str(number)) for number in range(200)]
    messages[50] = ask("other", ROW, request_id="50")
    messages[60] = b"\xff\xff"
    answers = list(client.stream()(iter(messages), timeout=30))
    assert len(answers) == 200
    for number, answer in enumerate(answers):
        if number in (50, 60):
            assert answer.error_message
            assert answer.infer_response.id == ("50" if number == 50 else "")
            continue
        assert answer.error_message == ""
        assert answer.infer_response.id == str(number)
        assert answer.infer_response.parameters["triton_final_response"].bool_param
        y = np.frombuffer(answer.infer_response.raw_output_contents[0], np.float32)
        np.testing.assert_array_equal(y, (ROW + number).reshape(-1) * 2)


def test_leaving_a_stream_takes_back_what_waits(pack, serve, connect):
    node = serve(pack(NAPS), options=GRPC)
    client = connect(node)
    waits = threading.Event()

    def messages() -> Iterator[Any]:
        yield ask("model", seconds(1.0), "seconds")
        for _ in range(9):
            yield ask("model", seconds(0.0), "seconds")
        waits.wait(20)

    stream = client.stream()(messages(), timeout=30)
    until(lambda: node.metric("setpoint_requests_accepted_total") == 10)
    stream.cancel()
    until(lambda: node.outcomes().get("cancelled", 0) == 10)
    waits.set()
    assert client.infer("model", seconds(0.0), "seconds")[0] == 2.0, "none of those that waited was run"


def test_a_stream_holds_its_client_back(pack, serve, connect):
    node = serve(pack(NAPS), options=GRPC)
    messages = [ask("model", seconds(1.0 if number == 0 else 0.0), "seconds") for number in range(500)]
    stream = connect(node).stream()(iter(messages), timeout=60)
    until(lambda: node.metric("setpoint_requests_accepted_total") >= 64)
    assert node.metric("setpoint_requests_accepted_total") == 64, "of 500 while the first one runs"
    assert sum(1 for _ in stream) == 500


# --- health, reflection ---------------------------------------------------------------------------------------------


def health(client: Client, call: str, service: str = "") -> Any:
    method = client.channel.unary_stream if call == "Watch" else client.channel.unary_unary
    return method(
        f"/grpc.health.v1.Health/{call}",
        lambda message: message.SerializeToString(),
        message_class("grpc.health.v1.HealthCheckResponse").FromString,
    )(message_class("grpc.health.v1.HealthCheckRequest")(service=service), timeout=30)


def test_health_is_that_of_the_node_and_of_each_model(pack, serve, connect):
    client = connect(serve(pack(twice()), options=GRPC))
    for service in ("", SERVICE, "model"):
        assert health(client, "Check", service).status == 1
    with pytest.raises(grpc.RpcError) as error:
        health(client, "Check", "nothing")
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    unknown = health(client, "Watch", "nothing")
    assert next(unknown).status == 3
    unknown.cancel()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_a_node_says_what_can_be_called(pack, serve, connect, version):
    client = connect(serve(pack(twice()), options=GRPC))
    question, answer = (
        message_class(f"grpc.reflection.{version}.ServerReflection{end}") for end in ("Request", "Response")
    )
    asked = [question(list_services=""), question(file_containing_symbol=f"{SERVICE}.ModelInfer")]
    listed, described = client.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        lambda message: message.SerializeToString(),
        answer.FromString,
    )(iter(asked), timeout=20)
    assert {SERVICE, "grpc.health.v1.Health"} <= {each.name for each in listed.list_services_response.service}
    (file,) = described.file_descriptor_response.file_descriptor_proto
    assert b"raw_input_contents" in file


def test_a_watcher_hears_of_the_end(pack, serve, connect):
    node = serve(pack(twice()), options=GRPC)
    watched = health(connect(node), "Watch")
    assert next(watched).status == 1
    node.signal()
    assert [answer.status for answer in watched] == [2]
    assert node.process.wait(20) == 0


# --- ending ---------------------------------------------------------------------------------------------------------


def test_draining_answers_what_was_accepted(pack, serve, connect):
    node = serve(pack(NAPS), options=GRPC)
    client = connect(node)
    accepted = [client.method("ModelInfer").future(ask("model", seconds(0.3), "seconds")) for _ in range(4)]
    said: list[Any] = []
    waits = threading.Event()

    def messages() -> Iterator[Any]:
        yield ask("model", seconds(0.1), "seconds")
        waits.wait(20)

    def read() -> None:
        try:
            said.extend(client.stream()(messages(), timeout=30))
        except grpc.RpcError as error:
            said.append(error.code())

    reader = threading.Thread(target=read)
    reader.start()
    until(lambda: node.metric("setpoint_requests_accepted_total") == 5)
    node.signal()
    assert [len(future.result(20).outputs) for future in accepted] == [1] * 4
    reader.join(20)
    waits.set()
    assert said[0].infer_response.raw_output_contents, "what the stream had asked was answered"
    assert said[1:] == [grpc.StatusCode.UNAVAILABLE]
    assert node.process.wait(20) == 0
    assert "Traceback" not in node.log


def test_what_draining_has_no_time_for_is_refused(pack, serve, connect):
    node = serve(pack(NAPS), options=GRPC, limits={"drain_timeout_s": 0.3})
    late = connect(node).method("ModelInfer").future(ask("model", seconds(3.0), "seconds"), timeout=20)
    until(lambda: node.metric("setpoint_requests_accepted_total") == 1)
    node.signal()
    with pytest.raises(grpc.RpcError) as error:
        late.result(20)
    code, words = failed(error.value)
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "shut down" in words
    assert node.process.wait(20) == 0


def test_a_taken_port_is_said_in_one_line(pack, serve, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        node = serve.unready(pack(twice()), options=(f"--grpc-port={taken.getsockname()[1]}",))
        assert node.process.wait(30) != 0
    assert "--grpc-port" in node.log
    assert "Traceback" not in node.log


def test_many_clients_at_once_share_batches(pack, serve, connect):
    node = serve(pack(twice()), options=GRPC)
    client = connect(node)

    def one(number: int) -> None:
        row = ROW + number
        np.testing.assert_array_equal(client.infer("model", row), row * 2)

    with ThreadPoolExecutor(16) as pool:
        done: list[Future[None]] = [pool.submit(one, number) for number in range(400)]
        for each in done:
            each.result()
    assert node.outcomes() == {"ok": 400}
    assert node.metric("setpoint_grpc_responses_total", code="OK") == 400
    with pytest.raises(grpc.RpcError):
        client.infer("nothing", ROW)
    assert node.metric("setpoint_grpc_responses_total", code="NOT_FOUND") == 1
    assert node.metric("setpoint_grpc_in_flight") == 0
