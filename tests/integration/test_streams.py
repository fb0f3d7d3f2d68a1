"""Streams of events: they arrive one by one, end with whoever ends first, and never take the node with them."""

import http.client
import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from harness import RunningNode, alive, event_stream, until

STREAMS = """
import os, time
from collections.abc import Iterator
import setpoint as sp

class Streams(sp.Model):
    @sp.endpoint
    def pid(self) -> int:
        return os.getpid()

    @sp.endpoint
    def count(self, to: int, pause: float = 0.0) -> Iterator[int]:
        for i in range(to):
            yield i
            time.sleep(pause)

    @sp.endpoint
    def witnessed(self, path: str, pause: float) -> Iterator[int]:
        i = 0
        try:
            while True:
                yield i
                i += 1
                time.sleep(pause)
        finally:
            open(path, "w").write(str(i))

    @sp.endpoint
    def large(self, sizes: list[int]) -> Iterator[str]:
        for size in sizes:
            yield chr(97 + size % 26) * size

    @sp.endpoint
    def flood(self, path: str = "") -> Iterator[str]:
        text = "x" * 100_000
        for i in range(100_000):
            if path and i % 50 == 0:
                with open(path + ".new", "w") as file:
                    file.write(str(i))
                os.replace(path + ".new", path)
            yield text

    @sp.endpoint
    def breaks(self, after: int) -> Iterator[int]:
        yield from range(after)
        raise RuntimeError("the tape is torn")

    @sp.endpoint
    def refuses(self, after: int) -> Iterator[int]:
        yield from range(after)
        raise sp.InvalidInput("no more of this")

    @sp.endpoint
    def dies(self, after: int) -> Iterator[int]:
        yield from range(after)
        time.sleep(0.2)
        os.kill(os.getpid(), 9)

    @sp.endpoint
    def hangs(self, after: int) -> Iterator[int]:
        yield from range(after)
        time.sleep(1e6)
"""


def idle(node: RunningNode) -> bool:
    return node.metric("setpoint_workers", state="idle") == 1


def resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def test_events_arrive_one_by_one(pack, serve):
    node = serve(pack(STREAMS))
    begun_s = time.monotonic()
    arrived_s = []
    with event_stream(node, "model/count", to=6, pause=0.3) as events:
        for i, (name, data) in enumerate(events):
            arrived_s.append(time.monotonic() - begun_s)
            assert (name, data) == ("message", i)
    assert len(arrived_s) == 6
    assert arrived_s[-1] - arrived_s[0] > 1.2, "the first event waited for the others"
    assert node.outcomes() == {"ok": 1}


def test_a_stream_without_events_is_an_empty_answer(pack, serve):
    node = serve(pack(STREAMS))
    with event_stream(node, "model/count", to=0) as events:
        assert list(events) == []


def test_arguments_are_judged_before_the_stream_begins(pack, serve):
    node = serve(pack(STREAMS))
    answer = node.call("model/count", to="seven")
    assert answer.status == 400
    assert "to" in answer.error


def test_events_of_any_size_arrive_whole(pack, serve):
    node = serve(pack(STREAMS))
    sizes = [0, 1, 65_533, 65_534, 65_535, 65_536, 65_537, 131_070, 200_000, 5_000_000, 3]
    with event_stream(node, "model/large", sizes=sizes) as events:
        assert [data for _, data in events] == [chr(97 + size % 26) * size for size in sizes]


def test_a_client_that_leaves_stops_the_generator_and_frees_the_worker(pack, serve, tmp_path):
    node = serve(pack(STREAMS))
    worker = node.call("model/pid").json
    with event_stream(node, "model/witnessed", path=str(tmp_path / "seen"), pause=0.05) as events:
        for _, data in events:
            if data == 3:
                break
    until((tmp_path / "seen").exists, 5, "the generator was closed")
    assert int((tmp_path / "seen").read_text()) < 30
    assert node.call("model/pid", timeout_s=5).json == worker
    assert node.outcomes() == {"ok": 2, "cancelled": 1}


def test_a_client_that_leaves_before_its_stream_began_is_forgotten(pack, serve, tmp_path):
    node = serve(pack(STREAMS))
    with event_stream(node, "model/count", to=10, pause=0.1) as first:
        iterator = iter(first)
        next(iterator)
        with event_stream(node, "model/witnessed", path=str(tmp_path / "seen"), pause=0.05):
            until(lambda: node.metric("setpoint_queue_rows") == 1)
        until(lambda: node.metric("setpoint_queue_rows") == 0, 5)
        assert len(list(iterator)) == 9
    assert not (tmp_path / "seen").exists()
    assert node.outcomes() == {"ok": 1, "cancelled": 1}


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [("breaks", "the tape is torn"), ("refuses", "no more of this"), ("dies", "SIGKILL")],
)
def test_a_stream_that_breaks_off_says_so_in_its_last_event(pack, serve, endpoint, said):
    node = serve(pack(STREAMS))
    with event_stream(node, f"model/{endpoint}", after=3) as events:
        *good, (name, data) = list(events)
    assert good == [("message", 0), ("message", 1), ("message", 2)]
    assert name == "error"
    assert said in data["error"]
    assert node.call("model/pid", timeout_s=10).status == 200


@pytest.mark.parametrize(
    ("endpoint", "status", "said"),
    [("breaks", 500, "the tape is torn"), ("refuses", 400, "no more of this"), ("dies", 503, "tried 2 times")],
)
def test_a_stream_that_fails_before_its_first_event_has_the_errors_status(pack, serve, endpoint, status, said):
    node = serve(pack(STREAMS))
    answer = node.call(f"model/{endpoint}", after=0)
    assert answer.status == status
    assert said in answer.error


def test_a_stream_that_stops_giving_events_is_ended_by_the_run_timeout(pack, serve):
    node = serve(pack(STREAMS), limits={"run_timeout_s": 1})
    with event_stream(node, "model/hangs", after=2) as events:
        *good, (name, data) = list(events)
    assert len(good) == 2
    assert name == "error"
    assert "did not answer within 1 s" in data["error"]
    assert node.call("model/pid", timeout_s=10).status == 200


def test_a_long_stream_may_take_longer_than_the_run_timeout(pack, serve):
    node = serve(pack(STREAMS), limits={"run_timeout_s": 1})
    with event_stream(node, "model/count", to=8, pause=0.3) as events:
        assert [data for _, data in events] == list(range(8))


def test_a_worker_killed_from_outside_ends_its_stream_at_once(pack, serve):
    node = serve(pack(STREAMS))
    worker = node.call("model/pid").json
    with event_stream(node, "model/count", to=1000, pause=0.05) as events:
        iterator = iter(events)
        for _ in range(3):
            next(iterator)
        killed_s = time.monotonic()
        os.kill(worker, signal.SIGKILL)
        assert list(iterator)[-1][0] == "error"
        assert time.monotonic() - killed_s < 10, "50 s of events were to come"


def test_a_client_that_reads_slowly_slows_the_model_and_not_the_nodes_memory(pack, serve, tmp_path):
    """10 GB want to come; what is made must be about what was read, wherever it waits meanwhile."""
    node = serve(pack(STREAMS), limits={"run_timeout_s": 1})  # and a slow reader is no hanging model
    worker = node.call("model/pid").json
    before_mib = resident_mib(node.pid)
    seen = tmp_path / "seen"
    with event_stream(node, "model/flood", path=str(seen)) as events:
        until(seen.exists)
        time.sleep(3)
        made = int(seen.read_text())
        assert resident_mib(node.pid) - before_mib < 20
        assert made * 0.1 < 20, f"{made * 0.1:.0f} MB were made for a client that reads nothing"
        count = sum(1 for _, (_, data) in zip(range(300), events, strict=False) if len(data) == 100_000)
        assert count == 300  # and it goes on where it was
        assert worker in node.workers()
    until(lambda: idle(node), 5, "the worker is free again")
    assert node.call("model/pid").json == worker


def test_a_fast_reader_is_not_held_up(pack, serve):
    node = serve(pack(STREAMS))
    begun_s = time.monotonic()
    with event_stream(node, "model/flood") as events:
        for _ in zip(range(1000), events, strict=False):
            pass
    assert time.monotonic() - begun_s < 30, "100 MB over loopback; with a pause for each event it would be minutes"


def test_a_stream_behind_another_request_on_one_connection_waits_outside_the_nodes_memory(pack, serve, tmp_path):
    """Pipelined: the stream's turn to write comes only when the request before it is answered."""
    seen = tmp_path / "seen"
    nap = """
import time
import setpoint as sp

class Nap(sp.Model):
    @sp.endpoint
    def nap(self, seconds: float) -> int:
        time.sleep(seconds)
        return 7
"""
    node = serve(pack(STREAMS), pack(nap, "nap"))
    before_mib = resident_mib(node.pid)

    def request(route: str, **arguments: object) -> bytes:
        body = json.dumps(arguments).encode()
        return b"POST /models/%b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (
            route.encode(),
            len(body),
            body,
        )

    with socket.create_connection(("127.0.0.1", node.port), timeout=20) as connection:
        connection.sendall(request("nap/nap", seconds=3) + request("model/flood", path=str(seen)))
        until(seen.exists)
        time.sleep(1.5)
        assert int(seen.read_text()) * 0.1 < 20
        assert resident_mib(node.pid) - before_mib < 20
        first = http.client.HTTPResponse(connection)
        first.begin()
        assert first.read() == b"7"
        received = 0
        while received < 20_000_000:
            received += len(connection.recv(1 << 20))
    until(lambda: node.metric("setpoint_workers", model="model", state="idle") == 1, 5)


def test_many_streams_share_the_workers_in_turn(pack, serve):
    node = serve(pack(STREAMS), workers=2)
    results: list[list[int]] = []

    def run() -> None:
        with event_stream(node, "model/count", to=20, pause=0.002) as events:
            results.append([data for _, data in events])

    threads = [threading.Thread(target=run) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [list(range(20))] * 16
    assert node.outcomes() == {"ok": 16}
    assert all(map(alive, node.workers()))
