"""How nodes end: orderly, in a hurry, by force; and how they fail to begin."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import RunningNode, alive, event_stream, until

NAPS = """
import os, time
from collections.abc import Iterator
import setpoint as sp

class Naps(sp.Model):
    @sp.endpoint
    def nap(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    @sp.endpoint
    def ticks(self, count: int) -> Iterator[int]:
        for i in range(count):
            yield i
            time.sleep(0.1)
"""


def in_background(node: RunningNode, *seconds: float):
    """Requests that are surely accepted when this returns."""
    pool = ThreadPoolExecutor(len(seconds))
    accepted = node.metric("setpoint_requests_accepted_total")
    futures = [pool.submit(node.call, "model/nap", seconds=s) for s in seconds]
    until(lambda: node.metric("setpoint_requests_accepted_total") == accepted + len(seconds))
    pool.shutdown(wait=False)
    return futures


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_accepted_is_answered_and_what_is_new_refused(pack, serve, number):
    node = serve(pack(NAPS))
    accepted = in_background(node, 0.5, 0.5, 0.5, 0.5)
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as kept:
        node.signal(number)
        until(lambda: node.ask("GET", "/v2/health/ready").status == 503)
        fresh = node.call("model/nap", seconds=0)
        assert fresh.status == 503
        assert "shutting down" in fresh.error
        assert "retry-after" in fresh.headers
        assert node.ask("GET", "/v2/health/live").status == 200
        kept.sendall(b"POST /models/model/nap HTTP/1.1\r\nhost: x\r\ncontent-length: 13\r\n\r\n" + b'{"seconds":0}')
        assert b"503" in kept.recv(4096), "a connection from before is told the same"
    assert [future.result().json for future in accepted] == [0.5] * 4
    assert node.process.wait(10) == 0
    assert not any(map(alive, node.seen_workers))
    assert "Traceback" not in node.log


def test_under_load_every_request_is_answered_with_200_or_503_until_the_end(pack, serve):
    node = serve(pack(NAPS), workers=2)
    statuses: list[int] = []
    broken: list[OSError] = []

    def client() -> None:
        while True:
            try:
                statuses.append(node.call("model/nap", seconds=0.01).status)
            except ConnectionRefusedError:
                return  # the node is gone; nothing was accepted
            except OSError as error:
                broken.append(error)
                return

    threads = [threading.Thread(target=client) for _ in range(24)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    accepted = node.metric("setpoint_requests_accepted_total")
    node.signal()
    assert node.process.wait(20) == 0
    for thread in threads:
        thread.join(10)
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= accepted
    # Connections that were opened when the last answer had left and the node closed. None of them held a request.
    assert all(isinstance(error, ConnectionError) for error in broken), broken
    assert not any(map(alive, node.seen_workers))


def test_a_stream_is_finished_while_draining(pack, serve):
    node = serve(pack(NAPS))
    with event_stream(node, "model/ticks", count=15) as events:
        iterator = iter(events)
        next(iterator)
        node.signal()
        assert [data for _, data in iterator] == list(range(1, 15))
    assert node.process.wait(10) == 0


def test_a_worker_that_dies_while_draining_is_replaced_for_what_was_accepted(pack, serve):
    node = serve(pack(NAPS))
    accepted = in_background(node, 1.0, 0.1, 0.1)
    (worker,) = node.workers()
    node.signal()
    until(lambda: node.ask("GET", "/v2/health/ready").status == 503)
    os.kill(worker, signal.SIGKILL)
    assert [future.result().json for future in accepted] == [1.0, 0.1, 0.1]
    node.workers()
    assert node.process.wait(10) == 0
    assert not any(map(alive, node.seen_workers))


def test_a_stream_that_outlasts_the_drain_ends_with_an_error_event(pack, serve):
    node = serve(pack(NAPS), limits={"drain_timeout_s": 1})
    with event_stream(node, "model/ticks", count=600) as events:
        iterator = iter(events)
        next(iterator)
        node.signal()
        *_, (name, data) = iterator
    assert name == "error"
    assert "shut down" in data["error"]
    assert node.process.wait(10) == 0


@pytest.mark.parametrize("ending", ["time.sleep(1e6)", "raise RuntimeError('stuck')", "os._exit(3)"])
def test_a_model_that_does_not_close_well_does_not_keep_the_node(pack, serve, ending):
    node = serve(
        pack(f"""
import os, time
import setpoint as sp

class Sticky(sp.Model):
    def close(self) -> None:
        {ending}

    @sp.endpoint
    def one(self) -> int:
        return 1
""")
    )
    begun_s = time.monotonic()
    assert node.stop() == 0
    assert time.monotonic() - begun_s < 15
    assert not any(map(alive, node.seen_workers))


def test_draining_takes_no_longer_than_its_limit_and_tells_those_it_leaves(pack, serve):
    node = serve(pack(NAPS), limits={"drain_timeout_s": 1})
    held, waiting = in_background(node, 60), in_background(node, 1)
    begun_s = time.monotonic()
    node.signal()
    assert node.process.wait(20) == 0
    assert 0.9 < time.monotonic() - begun_s < 15
    for future in (*held, *waiting):
        answer = future.result()
        assert answer.status == 503
        assert "shut down" in answer.error
    assert "drain" in node.log
    assert not any(map(alive, node.seen_workers))


def test_a_second_signal_leaves_at_once(pack, serve):
    node = serve(pack(NAPS))
    in_background(node, 60)
    node.signal(signal.SIGINT)
    until(lambda: node.ask("GET", "/v2/health/ready").status == 503)
    node.signal(signal.SIGINT)
    assert node.process.wait(5) == 130
    until(lambda: not any(map(alive, node.seen_workers)), 2, "a worker in the middle of a long run ends too")


@pytest.mark.parametrize("state", ["idle", "running", "streaming", "stopped"])
def test_workers_end_by_themselves_when_their_node_is_killed(pack, serve, state):
    node = serve(pack(NAPS), workers=2)
    if state == "running":
        in_background(node, 60, 60)
    elif state == "stopped":
        for pid in node.workers():
            os.kill(pid, signal.SIGSTOP)
    workers = node.workers()
    assert len(workers) == 2
    if state == "streaming":
        with event_stream(node, "model/ticks", count=600) as events:
            next(iter(events))
            os.kill(node.pid, signal.SIGKILL)
            node.process.wait()
            until(lambda: not any(map(alive, workers)), 2)
        return
    os.kill(node.pid, signal.SIGKILL)
    node.process.wait()
    until(lambda: not any(map(alive, workers)), 2)


def test_workers_end_when_their_node_is_killed_while_they_load(pack, serve, tmp_path):
    flag = tmp_path / "flag"
    name = pack(f"""
import os, time
import setpoint as sp

class Loads(sp.Model):
    def load(self, ctx: sp.Context) -> None:
        if os.path.exists({str(flag)!r}):
            time.sleep(1e6)

    @sp.endpoint
    def one(self) -> int:
        return 1
""")
    flag.touch()
    node = serve.unready(name)
    (worker,) = until(node.workers)
    time.sleep(0.5)
    os.kill(node.pid, signal.SIGKILL)
    node.process.wait()
    until(lambda: not alive(worker), 2)


def test_a_signal_to_the_whole_group_takes_no_request_with_it(pack, home, tmp_path):
    """Ctrl-C in a terminal, and a service manager's SIGTERM, reach the workers too."""
    name = pack(NAPS)
    for number in (signal.SIGINT, signal.SIGTERM):
        out = tmp_path / f"out-{number}"
        with out.open("wb") as stdout, (tmp_path / f"log-{number}").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "setpoint", "serve", name, "--json", "--port=0", "--workers=2"],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=log,
                process_group=0,
            )
        node = RunningNode(process, tmp_path / f"log-{number}", out)
        try:
            node.until_ready()
            accepted = in_background(node, 0.6, 0.6, 0.6)
            workers = node.workers()
            os.killpg(process.pid, number)
            assert [future.result().status for future in accepted] == [200] * 3
            assert process.wait(10) == 0
            assert "Traceback" not in node.log
            assert not any(map(alive, workers))
        finally:
            node.end()


def test_a_signal_while_workers_start_ends_the_node_quietly(pack, home, tmp_path):
    name = pack(NAPS)
    for delay_s in (0.05, 0.15, 0.3, 0.5, 0.8):
        with (tmp_path / "out").open("wb") as stdout, (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "setpoint", "serve", name, "--port=0", "--workers=2"],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=log,
                process_group=0,
            )
        node = RunningNode(process, tmp_path / "log", tmp_path / "out")
        try:
            until(lambda node=node: "listening" in node.stdout_path.read_text(), 30)
            time.sleep(delay_s)
            node.workers()
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(10) == 0
            assert "Traceback" not in node.log
        finally:
            node.end()


def test_two_nodes_share_a_registry(pack, serve):
    name = pack(NAPS)
    first, second = serve.unready(name), serve.unready(name)
    first.until_ready()
    second.until_ready()
    assert first.port != second.port
    for node in (first, second):
        assert node.call("model/nap", seconds=0).status == 200
    assert first.stop() == 0
    assert second.call("model/nap", seconds=0).status == 200


def test_a_port_in_use_is_said_in_one_line_and_nothing_is_started(pack, serve):
    name = pack(NAPS)
    first = serve(name)
    second = serve.unready(name, port=first.port)
    assert second.process.wait(20) == 2
    errors = second.log.strip().splitlines()
    assert len(errors) == 1
    assert f"127.0.0.1:{first.port}" in errors[0]
    assert "--port" in errors[0]
    assert first.call("model/nap", seconds=0).status == 200


def test_a_free_port_can_be_taken_again_at_once(pack, serve):
    name = pack(NAPS)
    first = serve(name)
    first.call("model/nap", seconds=0)
    port = first.port
    assert first.stop() == 0
    second = serve(name, port=port)
    assert second.call("model/nap", seconds=0).status == 200
