"""tritonclient over REST, unmodified: ``triton_http.py HOST:PORT CALL TOKEN``. Ends with 0 where the call does well."""

import asyncio
import sys
from functools import partial

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from triton_parts import ROWS, TEXTS, check_health, refused, tensor_of
from tritonclient.utils import InferenceServerException

TARGET, CALL, TOKEN = sys.argv[1:4]
tensor, health = partial(tensor_of, triton), check_health


def metadata(client):
    server = client.get_server_metadata()
    assert (server["name"], bool(server["version"])) == ("setpoint", True)
    assert {"binary_tensor_data", "classification", "statistics"} <= set(server["extensions"])
    model = client.get_model_metadata("twice")
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert model == client.get_model_metadata("twice", "1")


def config(client):
    found = client.get_model_config("twice")
    assert found["max_batch_size"] > 0
    assert [(each["name"], each["dims"]) for each in found["input"]] == [("x", [4])]


def statistics(client):
    (before,) = client.get_inference_statistics("twice")["model_stats"]
    client.infer("twice", [tensor("x", ROWS, "FP32")])
    (after,) = client.get_inference_statistics("twice", "1")["model_stats"]
    assert after["inference_count"] == before["inference_count"] + 2
    assert after["execution_count"] == before["execution_count"] + 1
    assert len(client.get_inference_statistics()["model_stats"]) > 1


def infer(client):
    for binary in (True, False):
        rows = tensor("x", ROWS, "FP32", binary_data=binary)
        answer = client.infer("twice", [rows], request_id="7", model_version="1")
        np.testing.assert_array_equal(answer.as_numpy("y"), ROWS * 2)
        np.testing.assert_array_equal(answer.as_numpy("z"), -ROWS)
        assert answer.get_response()["id"] == "7"
        assert answer.get_output("y")["datatype"] == "FP32"


def outputs(client):
    rows = [tensor("x", ROWS, "FP32")]
    for binary in (True, False):
        wanted = [triton.InferRequestedOutput("z", binary_data=binary)]
        answer = client.infer("twice", rows, outputs=wanted)
        np.testing.assert_array_equal(answer.as_numpy("z"), -ROWS)
        assert answer.as_numpy("y") is None
    mixed = [triton.InferRequestedOutput("z", binary_data=False), triton.InferRequestedOutput("y", binary_data=True)]
    answer = client.infer("twice", rows, outputs=mixed)
    np.testing.assert_array_equal(answer.as_numpy("y"), ROWS * 2)
    np.testing.assert_array_equal(answer.as_numpy("z"), -ROWS)


def classification(client):
    for binary in (True, False):
        wanted = [triton.InferRequestedOutput("y", binary_data=binary, class_count=2)]
        found = client.infer("twice", [tensor("x", ROWS, "FP32")], outputs=wanted).as_numpy("y")
        texts = [[text if isinstance(text, str) else text.decode() for text in row] for row in found]
        assert texts == [["6.000000:3", "4.000000:2"], ["14.000000:3", "12.000000:2"]]


def text(client):
    answer = client.infer("texts", [tensor("t", TEXTS, "BYTES")])
    assert answer.as_numpy("u").tolist() == TEXTS.tolist()
    plain = np.array([["a", "ü"]], object)
    answer = client.infer("texts", [tensor("t", plain, "BYTES", binary_data=False)])
    assert answer.as_numpy("u").tolist() == [[b"a", "ü".encode()]]


def half_floats(client):
    halves = np.array([[0.5, -1, 65504, np.nan]], np.float16)
    np.testing.assert_array_equal(client.infer("halves", [tensor("h", halves, "FP16")]).as_numpy("i"), halves)


def empty(client):
    none = np.empty((0, 4), np.float32)
    assert "no rows" in refused(client.infer, "twice", [tensor("x", none, "FP32")]).message()


def compression(client):
    many = np.repeat(ROWS, 200, axis=0)
    for there in (None, "gzip", "deflate"):
        for back in (None, "gzip", "deflate"):
            options = {"request_compression_algorithm": there, "response_compression_algorithm": back}
            answer = client.infer("twice", [tensor("x", many, "FP32")], **options)
            np.testing.assert_array_equal(answer.as_numpy("y"), many * 2)


def terms(client):
    rows = [tensor("x", ROWS, "FP32")]
    assert client.infer("twice", rows, priority=1, timeout=30_000_000).as_numpy("y") is not None
    assert client.infer("twice", rows, parameters={"mine": "a", "other": 1}).as_numpy("y") is not None
    assert refused(client.infer, "twice", rows, timeout=1).status() == "504"


def errors(client):
    rows = [tensor("x", ROWS, "FP32")]
    assert refused(client.infer, "nothing", rows).status() == "404"
    assert refused(client.infer, "twice", rows, model_version="7").status() == "404"
    wrong = refused(client.infer, "twice", [tensor("x", ROWS.astype(np.float64), "FP64")])
    assert (wrong.status(), wrong.message()) == ("400", "input 'x' has datatype 'FP64', the model takes FP32")
    unknown = [triton.InferRequestedOutput("w")]
    assert "no output 'w'" in refused(client.infer, "twice", rows, outputs=unknown).message()


def asynchronous(client):
    waiting = [client.async_infer("twice", [tensor("x", ROWS + n, "FP32")]) for n in range(20)]
    for n, request in enumerate(waiting):
        np.testing.assert_array_equal(request.get_result().as_numpy("y"), (ROWS + n) * 2)


def own_transport(client):
    """Bodies made and read by the client, carried by somebody else."""
    import urllib.request

    body, json_bytes = triton.InferenceServerClient.generate_request_body([tensor("x", ROWS, "FP32")])
    headers = {"Inference-Header-Content-Length": str(json_bytes), "Content-Type": "application/octet-stream"}
    asked = urllib.request.Request(f"http://{TARGET}/v2/models/twice/infer", body, headers)
    with urllib.request.urlopen(asked, timeout=20) as response:
        length = int(response.headers["Inference-Header-Content-Length"])
        answer = triton.InferenceServerClient.parse_response_body(response.read(), header_length=length)
    np.testing.assert_array_equal(answer.as_numpy("y"), ROWS * 2)


def repository(client):
    token = {"Authorization": f"Bearer {TOKEN}"}
    states = {model["name"]: model["state"] for model in client.get_model_repository_index(headers=token)}
    assert states["twice"] == "READY"
    client.unload_model("spare", headers=token)
    assert not client.is_model_ready("spare")
    client.load_model("spare", headers=token)
    assert client.is_model_ready("spare")
    assert refused(client.load_model, "spare").status() == "401"
    assert refused(client.load_model, "nothing", headers=token).status() == "404"


async def aio():
    async with triton_aio.InferenceServerClient(TARGET) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("twice")
        assert (await client.get_server_metadata())["name"] == "setpoint"
        assert (await client.get_model_metadata("twice"))["name"] == "twice"
        assert (await client.get_model_config("twice"))["name"] == "twice"
        assert (await client.get_inference_statistics("twice"))["model_stats"][0]["name"] == "twice"
        for binary in (True, False):
            rows = tensor("x", ROWS, "FP32", binary_data=binary)
            answers = await asyncio.gather(*(client.infer("twice", [rows]) for _ in range(10)))
            for answer in answers:
                np.testing.assert_array_equal(answer.as_numpy("y"), ROWS * 2)
        many = np.repeat(ROWS, 200, axis=0)
        for coding in ("gzip", "deflate"):
            options = {"request_compression_algorithm": coding, "response_compression_algorithm": coding}
            answer = await client.infer("twice", [tensor("x", many, "FP32")], **options)
            np.testing.assert_array_equal(answer.as_numpy("y"), many * 2)
        (refusal,) = await asyncio.gather(client.infer("nothing", [rows]), return_exceptions=True)
        assert isinstance(refusal, InferenceServerException)
        assert refusal.status() == "404"


if __name__ == "__main__":
    if CALL == "aio":
        asyncio.run(aio())
    else:
        with triton.InferenceServerClient(TARGET, concurrency=4) as client:
            globals()[CALL](client)
