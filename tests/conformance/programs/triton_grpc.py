"""tritonclient over gRPC, unmodified: ``triton_grpc.py HOST:PORT CALL TOKEN``. Ends with 0 where the call does well."""

import asyncio
import queue
import sys
from functools import partial

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from triton_parts import ROWS, TEXTS, check_health, refused, tensor_of

TARGET, CALL = sys.argv[1:3]
tensor, health = partial(tensor_of, triton), check_health


def metadata(client):
    server = client.get_server_metadata()
    assert (server.name, bool(server.version)) == ("setpoint", True)
    model = client.get_model_metadata("twice", as_json=True)
    assert model["name"] == "twice"
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "4"]}]


def infer(client):
    answer = client.infer("twice", [tensor("x", ROWS, "FP32")], request_id="7", model_version="1")
    np.testing.assert_array_equal(answer.as_numpy("y"), ROWS * 2)
    assert answer.get_response().id == "7"
    assert answer.get_output("y").datatype == "FP32"


def outputs(client):
    wanted = [triton.InferRequestedOutput("z")]
    answer = client.infer("twice", [tensor("x", ROWS, "FP32")], outputs=wanted)
    np.testing.assert_array_equal(answer.as_numpy("z"), -ROWS)
    assert answer.as_numpy("y") is None


def classification(client):
    wanted = [triton.InferRequestedOutput("y", class_count=2)]
    answer = client.infer("twice", [tensor("x", ROWS, "FP32")], outputs=wanted)
    assert answer.as_numpy("y").tolist() == [[b"6.000000:3", b"4.000000:2"], [b"14.000000:3", b"12.000000:2"]]


def text(client):
    answer = client.infer("texts", [tensor("t", TEXTS, "BYTES")])
    assert answer.as_numpy("u").tolist() == TEXTS.tolist()


def half_floats(client):
    halves = ROWS.astype(np.float16)
    answer = client.infer("halves", [tensor("h", halves, "FP16")])
    np.testing.assert_array_equal(answer.as_numpy("i"), halves)


def compression(client):
    for algorithm in ("gzip", "deflate"):
        answer = client.infer("twice", [tensor("x", ROWS, "FP32")], compression_algorithm=algorithm)
        np.testing.assert_array_equal(answer.as_numpy("y"), ROWS * 2)


def terms(client):
    answer = client.infer(
        "twice", [tensor("x", ROWS, "FP32")], priority=1, timeout=5_000_000, client_timeout=5.0, parameters={"mine": 1}
    )
    np.testing.assert_array_equal(answer.as_numpy("y"), ROWS * 2)


def errors(client):
    unknown = refused(client.infer, "nothing", [tensor("x", ROWS, "FP32")])
    assert unknown.status() == "StatusCode.NOT_FOUND"
    assert "this node serves" in unknown.message()
    wrong = refused(client.infer, "twice", [tensor("x", ROWS[:, :3].copy(), "FP32")])
    assert wrong.status() == "StatusCode.INVALID_ARGUMENT"
    assert "the model takes [-1, 4]" in wrong.message()
    assert refused(client.get_model_metadata, "nothing").status() == "StatusCode.NOT_FOUND"


def asynchronous(client):
    answers = queue.Queue()
    for number in range(20):
        rows = ROWS + number
        client.async_infer(
            "twice",
            [tensor("x", rows, "FP32")],
            lambda result, error: answers.put((result, error)),
            request_id=str(number),
        )
    for _ in range(20):
        result, error = answers.get(timeout=20)
        assert error is None
        number = int(result.get_response().id)
        np.testing.assert_array_equal(result.as_numpy("y"), (ROWS + number) * 2)


def stream(client):
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(5):
        name = "nothing" if number == 2 else "twice"
        client.async_stream_infer(
            name, [tensor("x", ROWS + number, "FP32")], request_id=str(number), enable_empty_final_response=True
        )
    for number in range(5):
        result, error = answers.get(timeout=20)
        if number == 2:
            assert "no model is called" in str(error)
            continue
        assert error is None
        response = result.get_response()
        assert response.id == str(number)
        assert response.parameters["triton_final_response"].bool_param
        np.testing.assert_array_equal(result.as_numpy("y"), (ROWS + number) * 2)
    client.stop_stream()


def repository(_):
    """The token of the test."""
    token = {"authorization": f"Bearer {sys.argv[3]}"}
    with triton.InferenceServerClient(TARGET) as client:
        names = {model.name: model.state for model in client.get_model_repository_index(headers=token).models}
        assert names["twice"] == "READY"
        client.unload_model("spare", headers=token)
        assert not client.is_model_ready("spare")
        client.load_model("spare", headers=token)
        assert client.is_model_ready("spare")
        assert refused(client.load_model, "spare").status() == "StatusCode.UNAUTHENTICATED"
        assert refused(client.load_model, "nothing", headers=token).status() == "StatusCode.NOT_FOUND"


def config(client):
    found = client.get_model_config("twice").config
    assert found.name == "twice"
    assert found.max_batch_size > 0
    assert [(each.name, list(each.dims)) for each in found.input] == [("x", [4])]
    assert not found.model_transaction_policy.decoupled


def statistics(client):
    before = client.get_inference_statistics("twice").model_stats[0]
    client.infer("twice", [tensor("x", ROWS, "FP32")])
    after = client.get_inference_statistics("twice").model_stats[0]
    assert (after.name, after.version) == ("twice", "1")
    assert after.inference_count == before.inference_count + 2
    assert after.execution_count == before.execution_count + 1
    for field in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        assert getattr(after.inference_stats, field).count > getattr(before.inference_stats, field).count
    assert len(client.get_inference_statistics().model_stats) > 1


async def aio():
    async with triton_aio.InferenceServerClient(TARGET) as client:
        assert await client.is_server_ready()
        rows = tensor_of(triton_aio, "x", ROWS, "FP32")
        answers = await asyncio.gather(*(client.infer("twice", [rows]) for _ in range(10)))
        for answer in answers:
            np.testing.assert_array_equal(answer.as_numpy("y"), ROWS * 2)

        async def requests():
            for number in range(3):
                yield {"model_name": "twice", "inputs": [rows], "request_id": str(number)}

        ids = []
        async for result, error in client.stream_infer(requests()):
            assert error is None
            ids.append(result.get_response().id)
        assert ids == ["0", "1", "2"]


if CALL == "aio":
    asyncio.run(aio())
else:
    with triton.InferenceServerClient(TARGET) as opened:
        globals()[CALL](opened)
