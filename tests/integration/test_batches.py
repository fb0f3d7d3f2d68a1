"""Batches form, answers reach whoever asked, and one request's trouble stays its own."""

import asyncio
import contextlib
import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from harness import RunningNode, until
from onnx import TensorProto, helper

MIB = 1 << 20


def graph(nodes, inputs, outputs, initializers=()) -> onnx.ModelProto:
    made = helper.make_graph(nodes, "graph", inputs, outputs, list(initializers))
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def tensor(name: str, kind: int, *shape: str | int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def doubler(*shape: str | int) -> onnx.ModelProto:
    """y = x + x."""
    kind = TensorProto.FLOAT
    return graph([helper.make_node("Add", ["x", "x"], ["y"])], [tensor("x", kind, *shape)], [tensor("y", kind, *shape)])


def looker() -> onnx.ModelProto:
    """Rows of a table of 10 by index; any other index makes the engine fail."""
    table = helper.make_tensor("table", TensorProto.FLOAT, [10], [float(i * i) for i in range(10)])
    return graph(
        [helper.make_node("Gather", ["table", "i"], ["y"])],
        [tensor("i", TensorProto.INT64, "n")],
        [tensor("y", TensorProto.FLOAT, "n")],
        [table],
    )


def worker_of_seconds(run: str) -> str:
    """A class that is slow enough for a queue to form, and whose batches can be watched."""
    return f"""
import time
import setpoint as sp

class Slow(sp.Model):
    @sp.endpoint(batch=8)
    def double(self, xs: list[int]) -> list[int]:
        time.sleep({run})
        return [2 * x for x in xs]
"""


def infer(node: RunningNode, name: str, array: np.ndarray, datatype: str, input_name: str = "x"):
    body = {
        "inputs": [
            {"name": input_name, "shape": list(array.shape), "datatype": datatype, "data": array.ravel().tolist()}
        ]
    }
    return node.ask("POST", f"/v2/models/{name}/infer", body)


def outputs(answer) -> np.ndarray:
    assert answer.status == 200, answer.body
    (output,) = answer.json["outputs"]
    return np.array(output["data"]).reshape(output["shape"])


def hold(node: RunningNode, name: str):
    """Stop the workers of a model until released, so that what is sent meanwhile waits together."""
    import os
    import signal

    workers = node.workers()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    return lambda: [os.kill(pid, signal.SIGCONT) for pid in workers]


def together(node: RunningNode, waiting: int, ask) -> list:
    """Send requests so that all but the first (which the stopped worker already holds) wait in one queue."""
    release = hold(node, "model")
    with ThreadPoolExecutor(waiting + 1) as pool:
        first = pool.submit(ask, 0)
        until(lambda: node.metric("setpoint_workers", state="busy") == 1)
        others = [pool.submit(ask, i) for i in range(1, waiting + 1)]
        until(lambda: node.metric("setpoint_requests_accepted_total") >= waiting + 1)
        release()
        return [first.result(), *(future.result() for future in others)]


def test_waiting_requests_share_a_batch_and_each_gets_its_own_rows(pack, serve):
    node = serve(pack(doubler("n", 3)))
    rows = [np.full((1 + i % 4, 3), i, np.float32) + np.arange(3) for i in range(13)]
    answers = together(node, 12, lambda i: infer(node, "model", rows[i], "FP32"))
    for row, answer in zip(rows, answers, strict=True):
        np.testing.assert_array_equal(outputs(answer), 2 * row)
    assert node.metric("setpoint_batch_rows_count") < 7, "twelve waiting requests hardly shared batches"
    assert node.metric("setpoint_batch_rows_sum") == sum(len(row) for row in rows)


def test_under_load_batches_form_and_no_answer_goes_astray(pack, serve):
    """Each client sends numbers that nobody else sends, and checks what it gets, thousands of times."""
    node = serve(pack(worker_of_seconds("0.005")), workers=2)
    failures: list[str] = []

    async def client(number: int, requests: int) -> None:
        chance = random.Random(number)
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        for i in range(requests):
            xs = [number * 1_000_000 + i * 1_000 + j for j in range(chance.randint(1, 5))]
            body = json.dumps({"xs": xs}).encode()
            writer.write(
                b"POST /models/model/double HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            got = await reader.readexactly(length)
            if json.loads(got) != [2 * x for x in xs]:
                failures.append(f"client {number}: {xs} gave {got!r}")
        writer.close()
        await writer.wait_closed()

    async def run() -> None:
        await asyncio.gather(*(client(number, 40) for number in range(48)))

    asyncio.run(run())
    assert failures == []
    assert node.outcomes() == {"ok": 48 * 40}
    batches, rows = node.metric("setpoint_batch_rows_count"), node.metric("setpoint_batch_rows_sum")
    assert rows / batches > 3, "no batches formed"
    assert node.batches_up_to(8) == batches, "a batch was larger than the class allows"


def test_a_poisoned_input_fails_alone(pack, serve):
    node = serve(pack(looker()))

    def ask(i: int):
        return infer(node, "model", np.array([i % 10, 99 if i == 5 else 3]), "INT64", "i")

    answers = together(node, 10, ask)
    assert [a.status for a in answers] == [500 if i == 5 else 200 for i in range(11)]
    for i, answer in enumerate(answers):
        if i != 5:
            assert outputs(answer).tolist() == [(i % 10) ** 2, 9]
    assert "out of" in answers[5].error
    assert node.metric("setpoint_request_retries_total") >= 4, "nobody shared a batch with it"
    assert node.metric("setpoint_worker_restarts_total") == 0


def test_requests_of_different_shapes_are_answered_side_by_side(pack, serve):
    node = serve(pack(doubler("n", "m")))
    rows = [np.full((1 + i % 2, 1 + i % 5), i, np.float32) for i in range(21)]
    answers = together(node, 20, lambda i: infer(node, "model", rows[i], "FP32"))
    for row, answer in zip(rows, answers, strict=True):
        np.testing.assert_array_equal(outputs(answer), 2 * row)
    assert node.metric("setpoint_batch_rows_count") < 12, "requests of one width hardly shared batches"


def test_a_request_with_more_rows_than_a_batch_is_answered_whole(pack, serve):
    node = serve(pack(worker_of_seconds("0")), pack(doubler("n", 2), "tensors"))
    assert node.call("model/double", xs=list(range(1000))).json == [2 * x for x in range(1000)]
    row = np.arange(10_000, dtype=np.float32).reshape(5000, 2)
    np.testing.assert_array_equal(outputs(infer(node, "tensors", row, "FP32")), 2 * row)


def test_a_batch_beyond_the_shared_memory_runs_in_pieces_and_a_request_beyond_it_is_too_large(pack, serve):
    node = serve(pack(doubler("n", 1024)), limits={"arena_limit_bytes": 2 * MIB})
    fits = [np.full((300, 1024), i, np.float32) for i in range(4)]  # 1.2 MB each: two do not fit together

    def ask(i: int):
        if i == 2:
            return infer(node, "model", np.zeros((600, 1024), np.float32), "FP32")
        return infer(node, "model", fits[i % 4], "FP32")

    answers = together(node, 6, ask)
    assert [a.status for a in answers] == [413 if i == 2 else 200 for i in range(7)]
    for i, answer in enumerate(answers):
        if i != 2:
            np.testing.assert_array_equal(outputs(answer), 2 * fits[i % 4])
    assert "2097152 bytes" in answers[2].error
    assert node.metric("setpoint_worker_restarts_total") == 0


def test_answers_beyond_the_shared_memory_are_split_and_only_the_too_large_one_fails(pack, serve):
    source = """
import setpoint as sp

class Repeats(sp.Model):
    @sp.endpoint(batch=64)
    def repeat(self, sizes: list[int]) -> list[str]:
        return ["x" * size for size in sizes]
"""
    node = serve(pack(source), limits={"arena_limit_bytes": 2 * MIB})
    sizes = [900_000, 10, 3_000_000, 900_000, 900_000, 900_000]
    answers = together(node, 5, lambda i: node.call("model/repeat", sizes=[sizes[i]]))
    assert [a.status for a in answers] == [500 if i == 2 else 200 for i in range(6)]
    assert [len(a.json[0]) for i, a in enumerate(answers) if i != 2] == [s for i, s in enumerate(sizes) if i != 2]
    assert "too large" in answers[2].error
    assert node.metric("setpoint_worker_restarts_total") == 0


def test_a_large_request_grows_the_memory_and_small_ones_follow_correctly(pack, serve):
    node = serve(pack(doubler("n", 64)), limits={"json_limit_bytes": 64 << 20})
    for rows in (1, 4_000, 1, 16_000, 3, 4_000):  # 4 MB at most, through an arena that begins with 1 MB
        array = np.random.default_rng(rows).integers(-1000, 1000, (rows, 64)).astype(np.float32)
        np.testing.assert_array_equal(outputs(infer(node, "model", array, "FP32")), 2 * array)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(pack, serve):
    node = serve(pack(worker_of_seconds("0.2")), limits={"queue_limit_rows": 10})
    bodies = [{"xs": [i]} for i in range(40)]
    answers = node.call_all("model/double", bodies)
    statuses = sorted({a.status for a in answers})
    assert statuses == [200, 503]
    for i, answer in enumerate(answers):
        if answer.status == 200:
            assert answer.json == [2 * i]
        else:
            assert "full" in answer.error
            assert 1 <= int(answer.headers["retry-after"]) <= 60
    refused = sum(a.status == 503 for a in answers)
    assert node.metric("setpoint_requests_accepted_total") == 40 - refused


def test_a_request_that_waits_too_long_is_answered_504(pack, serve):
    node = serve(pack(worker_of_seconds("1.5 if xs[0] == 0 else 0")), limits={"request_timeout_s": 0.5})
    first = threading.Thread(target=lambda: node.call("model/double", xs=[0]))
    first.start()
    until(lambda: node.metric("setpoint_workers", state="busy") == 1)
    answer = node.call("model/double", xs=[1])
    first.join()
    assert answer.status == 504
    assert answer.seconds > 0.4
    assert "waited" in answer.error
    assert node.outcomes() == {"ok": 1, "deadline_exceeded": 1}


def test_clients_that_leave_are_not_computed_for(pack, serve):
    node = serve(pack(worker_of_seconds("0.4")))

    def impatient(i: int) -> None:
        with pytest.raises(TimeoutError):
            node.call("model/double", timeout_s=0.2, xs=[i])

    first = threading.Thread(target=lambda: node.call("model/double", xs=[0]))
    first.start()
    until(lambda: node.metric("setpoint_workers", state="busy") == 1)
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(impatient, range(12)))
    first.join()
    until(lambda: node.outcomes().get("cancelled") == 12, 5)
    assert node.metric("setpoint_batch_rows_sum") <= 1 + 8, "rows were computed for clients that had left"


def test_the_counters_add_up_at_every_moment(pack, serve):
    """accepted = sum of outcomes + in flight, whatever happens meanwhile: deaths, refusals, time-outs, departures."""
    source = """
import os, time
import setpoint as sp

class Moody(sp.Model):
    @sp.endpoint(batch=8)
    def do(self, orders: list[str]) -> list[str]:
        time.sleep(0.01)
        if "die" in orders and os.path.exists(orders[-1]) is False:
            os._exit(1)
        if "fail" in orders:
            raise RuntimeError("failed")
        if "refuse" in orders:
            raise sp.InvalidInput("refused")
        return orders
"""
    node = serve(pack(source), workers=2, limits={"queue_limit_rows": 60, "request_timeout_s": 2})
    ending = threading.Event()

    def client(number: int) -> None:
        chance = random.Random(number)
        while not ending.is_set():
            order = chance.choices(["go", "fail", "refuse", "die"], [60, 5, 5, 1])[0]
            with contextlib.suppress(TimeoutError, ConnectionError):
                node.call("model/do", timeout_s=chance.choice([0.02, 5, 5, 5]), orders=[order])

    threads = [threading.Thread(target=client, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(60):
            samples = node.metrics()
            accepted = sum(samples["setpoint_requests_accepted_total"].values())
            ended = sum(samples.get("setpoint_requests_total", {}).values())
            in_flight = sum(samples["setpoint_requests_in_flight"].values())
            assert accepted == ended + in_flight
    finally:
        ending.set()
        for thread in threads:
            thread.join()
    until(lambda: node.metric("setpoint_requests_in_flight") == 0, 10)
    outcomes = node.outcomes()
    assert node.metric("setpoint_requests_accepted_total") == sum(outcomes.values())
    assert {"ok", "model_error", "invalid_request", "cancelled"} <= set(outcomes)
    assert node.metric("setpoint_worker_restarts_total", reason="died") > 0
