"""kserve's inference client over gRPC, unmodified: ``kserve_grpc.py HOST:PORT CALL``."""

import asyncio
import sys

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

TARGET, CALL = sys.argv[1:3]
ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)


def request(name="twice", binary=True):
    rows = InferInput("x", list(ROWS.shape), "FP32")
    rows.set_data_from_numpy(ROWS, binary_data=binary)
    return InferRequest(model_name=name, infer_inputs=[rows], request_id="7")


async def health(client):
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("twice")
    assert not await client.is_model_ready("nothing")


async def infer(client):
    for binary in (True, False):
        answer = await client.infer(infer_request=request(binary=binary))
        assert answer.id == "7"
        (y,) = [output for output in answer.outputs if output.name == "y"]
        np.testing.assert_array_equal(y.as_numpy(), ROWS * 2)


async def errors(client):
    refusal = None
    try:
        await client.infer(infer_request=request("nothing"))
    except grpc.RpcError as error:
        refusal = error
    assert refusal is not None
    assert refusal.code() is grpc.StatusCode.NOT_FOUND
    assert "this node serves" in refusal.details()


async def main():
    async with InferenceGRPCClient(TARGET, timeout=20) as client:
        await globals()[CALL](client)


asyncio.run(main())
