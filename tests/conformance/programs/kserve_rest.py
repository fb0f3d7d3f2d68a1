"""kserve's inference client over REST, unmodified: ``kserve_rest.py URL CALL``."""

import asyncio
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferOutput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

URL, CALL = sys.argv[1:3]
ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)


def request(name="twice", array=ROWS, datatype="FP32", binary=True, **options):
    rows = InferInput("x" if name != "texts" else "t", list(array.shape), datatype)
    rows.set_data_from_numpy(array, binary_data=binary)
    return InferRequest(model_name=name, infer_inputs=[rows], request_id="7", **options)


def output(answer, name) -> InferOutput:
    (found,) = [output for output in answer.outputs if output.name == name]
    return found


async def refused(call):
    try:
        await call
    except httpx.HTTPStatusError as error:
        return error
    raise AssertionError("it was not refused")


async def health(client):
    assert await client.is_server_live(URL)
    assert await client.is_server_ready(URL)
    assert await client.is_model_ready(URL, "twice")
    assert not await client.is_model_ready(URL, "nothing")


async def infer(client):
    for binary in (True, False):
        answer = await client.infer(URL, request(binary=binary), model_name="twice")
        assert answer.id == "7"
        assert answer.model_name == "twice"
        np.testing.assert_array_equal(output(answer, "y").as_numpy(), ROWS * 2)


async def binary_outputs(client):
    wanted = [RequestedOutput("z", parameters={"binary_data": True}), RequestedOutput("y")]
    asked = request(request_outputs=wanted)
    headers = {}
    answer = await client.infer(URL, asked, model_name="twice", response_headers=headers)
    assert int(headers["inference-header-content-length"]) > 0
    np.testing.assert_array_equal(output(answer, "z").as_numpy(), -ROWS)
    np.testing.assert_array_equal(output(answer, "y").as_numpy(), ROWS * 2)


async def text(client):
    texts = np.array([["a", "ü"]], object)
    for binary in (True, False):
        answer = await client.infer(URL, request("texts", texts, "BYTES", binary), model_name="texts")
        found = output(answer, "u").as_numpy().tolist()
        assert [[one if isinstance(one, str) else one.decode() for one in row] for row in found] == [["a", "ü"]]


async def errors(client):
    for name, array, datatype, status in (("nothing", ROWS, "FP32", 404), ("twice", ROWS.astype("f8"), "FP64", 400)):
        refusal = await refused(client.infer(URL, request(name, array, datatype), model_name=name))
        assert refusal.response.status_code == status
        assert "datatype" in str(refusal) or "nothing is served" in str(refusal), refusal


async def main():
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    try:
        await globals()[CALL](client)
    finally:
        await client.close()


asyncio.run(main())
