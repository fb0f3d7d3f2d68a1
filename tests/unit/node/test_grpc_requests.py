"""A call that is cancelled and answered in one turn of the event loop is told apart by nobody, and breaks nothing."""

import asyncio
import gc
from typing import Any

import numpy as np
import pytest

from setpoint.core import FREE, QueueFull, SetpointError, Signature, TensorSpec
from setpoint.node.grpc.requests import GrpcTensorRequest
from setpoint.wire import BatchOutputs
from setpoint.wire.grpc import GrpcCodec, message_class, read_infer

SIGNATURE = Signature((TensorSpec("x", "FP32", (FREE, 2)),), (TensorSpec("y", "FP32", (FREE, 2)),), True)
ROWS = np.ones((1, 2), np.float32)


class Queue:
    """What a service does with a request whose client left."""

    name = "model"

    def __init__(self) -> None:
        self.cancelled: list[Any] = []

    def cancel(self, request: Any) -> None:
        request.gone = request.ended = True
        self.cancelled.append(request)


def asked(queue: Queue) -> GrpcTensorRequest:
    message = message_class("inference.ModelInferRequest")(raw_input_contents=[ROWS.tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=(1, 2))
    codec = GrpcCodec(SIGNATURE, "model", "1")
    decoded = codec.decode(read_infer(message.SerializeToString(), 1000))
    return GrpcTensorRequest(queue, "predict", decoded, codec, streams=False)  # type: ignore[arg-type]


async def end(task: asyncio.Task[bytes]) -> Any:
    try:
        return await task
    except (asyncio.CancelledError, SetpointError) as error:
        return type(error)


@pytest.mark.parametrize("how", ["answer", "fail", "nothing"])
def test_a_call_cancelled_in_the_turn_of_its_answer(how: str) -> None:
    async def main() -> tuple[Any, Queue]:
        queue = Queue()
        request = asked(queue)
        task = asyncio.create_task(request.response())
        await asyncio.sleep(0)
        task.cancel()
        if how == "answer":
            request.answer(BatchOutputs([ROWS], together=False), 0, 1)
        elif how == "fail":
            request.fail(QueueFull("no"))
        request.ended = how != "nothing"  # as the ledger writes down
        return await end(task), queue

    outcome, queue = asyncio.run(main())
    assert outcome is asyncio.CancelledError
    assert len(queue.cancelled) == (how == "nothing")


def test_an_answer_and_an_error_reach_the_call() -> None:
    async def main() -> tuple[Any, Any]:
        answered, failed = asked(Queue()), asked(Queue())
        tasks = [asyncio.create_task(request.response()) for request in (answered, failed)]
        await asyncio.sleep(0)
        answered.answer(BatchOutputs([ROWS], together=False), 0, 1)
        failed.fail(QueueFull("no"))
        return await end(tasks[0]), await end(tasks[1])

    body, error = asyncio.run(main())
    assert message_class("inference.ModelInferResponse").FromString(body).raw_output_contents[0] == ROWS.tobytes()
    assert error is QueueFull


def test_an_error_that_a_client_left_behind_is_no_trace_in_the_log() -> None:
    async def main() -> list[Any]:
        logged: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context["message"]))
        request = asked(Queue())
        request.fail(QueueFull("no"))
        request.ended = True  # as the ledger writes down
        request.abandon()
        del request
        gc.collect()
        return logged

    assert asyncio.run(main()) == []
