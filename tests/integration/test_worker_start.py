"""Workers come to be, as new interpreters or forked; either way they are the node's own, and end when they should."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import alive, children, until

from setpoint.registry import Registry
from setpoint.worker import (
    Answered,
    CallRequest,
    ForkServers,
    Nursery,
    Ready,
    Report,
    StreamChunk,
    StreamRequest,
    WorkerHandle,
    WorkerSpec,
)
from setpoint.worker.nursery import Interpreters

MODEL = """
from collections.abc import Iterator
import os, random, signal, subprocess, sys, time
import numpy as np
import setpoint as sp

class Curious(sp.Model):
    @sp.endpoint
    def look(self) -> dict[str, str]:
        return {
            "pid": str(os.getpid()), "parent": str(os.getppid()), "group": str(os.getpgid(0)),
            "name": open("/proc/self/comm").read().strip(), "blas": os.environ["OPENBLAS_NUM_THREADS"],
            "random": str(random.random()), "numpy": str(np.random.rand()),
            "safe_path": str(sys.flags.safe_path), "ort": str("onnxruntime" in sys.modules),
            "fds": " ".join(os.listdir("/proc/self/fd")),
        }

    @sp.endpoint
    def compute(self) -> list[int]:
        return [os.getpriority(os.PRIO_PROCESS, int(thread)) for thread in os.listdir("/proc/self/task")]

    @sp.endpoint
    def generate(self) -> Iterator[int]:
        yield os.getpriority(os.PRIO_PROCESS, 0)

    @sp.endpoint
    def hang(self) -> int:
        time.sleep(1e6)
        return 0

    @sp.endpoint
    def leave_an_orphan(self) -> int:
        # A shell that starts a short sleep in a session of its own, and ends before it.
        found = subprocess.run(["sh", "-c", "setsid sleep 0.3 >/dev/null & echo $!"], capture_output=True, text=True)
        return int(found.stdout)

    @sp.endpoint
    def spawn(self) -> int:
        import multiprocessing
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(os.getpid)
"""


class Listener:
    """Keeps what a worker reports."""

    def __init__(self) -> None:
        self.reports: asyncio.Queue[Report] = asyncio.Queue()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def on_report(self, worker: WorkerHandle, report: Report) -> None:
        self.reports.put_nowait(report)

    def on_exit(self, worker: WorkerHandle, reason: str) -> None:
        self.ended.set_result(reason)


class Started:
    """A worker and what it says."""

    def __init__(self, spec: WorkerSpec, nursery: Nursery) -> None:
        self.listener = Listener()
        self.handle = WorkerHandle(spec, self.listener, asyncio.get_running_loop(), nursery)
        self.batch = 0

    async def ready(self) -> "Started":
        async with asyncio.timeout(30):
            assert isinstance(await self.listener.reports.get(), Ready)
        return self

    def ask(self, endpoint: str) -> None:
        self.batch += 1
        assert self.handle.call(self.batch, [CallRequest(endpoint, 1, (), b"{}", raw=False)])

    async def call(self, endpoint: str) -> Any:
        self.ask(endpoint)
        async with asyncio.timeout(30):
            report = await self.listener.reports.get()
        assert isinstance(report, Answered)
        (answer,) = self.handle.read_answers(report)
        assert isinstance(answer, bytes), answer
        return json.loads(answer)

    async def ended(self) -> str:
        async with asyncio.timeout(30):
            return await self.listener.ended


@pytest.fixture
def spec(home: Path, pack: Callable[..., str]) -> WorkerSpec:
    registry = Registry(home)
    bundle = registry.resolve(pack(MODEL))
    return WorkerSpec(bundle.manifest, registry.folder(bundle), ("python",), 1, 0, 1 << 26)


@asynccontextmanager
async def nursery(kind: str) -> AsyncIterator[Nursery]:
    if kind == "interpreters":
        yield Interpreters()
        return
    forks = ForkServers()
    try:
        yield forks
    finally:
        forks.close()


def fork_server() -> int:
    (pid,) = set(children(os.getpid(), fork_servers=True)) - set(children(os.getpid()))
    return pid


both = pytest.mark.parametrize("kind", ["interpreters", "forked"])


@both
def test_a_worker_is_the_nodes_child_with_a_group_of_its_own(kind: str, spec: WorkerSpec) -> None:
    async def scenario() -> None:
        async with nursery(kind) as place:
            worker = await Started(spec, place).ready()
            found = await worker.call("look")
            pid = str(worker.handle.pid)
            assert (found["pid"], found["parent"], found["group"]) == (pid, str(os.getpid()), pid)
            assert (found["name"], found["blas"], found["safe_path"]) == ("setpoint-worker", "1", "True")
            assert found["ort"] == "False", "an engine that it does not use is not imported"
            worker.handle.close()
            assert await worker.ended() == "closed"
            assert not alive(int(pid))

    asyncio.run(scenario())


@both
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_how_a_worker_ended_is_told(kind: str, number: signal.Signals, spec: WorkerSpec) -> None:
    async def scenario() -> None:
        async with nursery(kind) as place:
            worker = await Started(spec, place).ready()
            worker.ask("hang")
            os.kill(worker.handle.pid, number)
            assert number.name in await worker.ended()

    asyncio.run(scenario())


@both
def test_signals_for_the_whole_group_do_not_end_a_worker(kind: str, spec: WorkerSpec) -> None:
    async def scenario() -> None:
        async with nursery(kind) as place:
            worker = await Started(spec, place).ready()
            for number in (signal.SIGINT, signal.SIGTERM):
                os.kill(worker.handle.pid, number)
            assert await worker.call("look")
            worker.handle.close()
            await worker.ended()

    asyncio.run(scenario())


@both
def test_a_model_may_start_processes_that_import_their_parents_main_module(kind: str, spec: WorkerSpec) -> None:
    async def scenario() -> None:
        async with nursery(kind) as place:
            worker = await Started(spec, place).ready()
            assert await worker.call("spawn") != worker.handle.pid
            worker.handle.close()
            await worker.ended()

    asyncio.run(scenario())


def test_forked_workers_draw_different_random_numbers_and_hold_only_their_own_descriptors(spec: WorkerSpec) -> None:
    async def scenario() -> None:
        async with nursery("forked") as forks:
            one, two = await Started(spec, forks).ready(), await Started(spec, forks).ready()
            found = [await one.call("look"), await two.call("look")]
            assert found[0]["random"] != found[1]["random"]
            assert found[0]["numpy"] != found[1]["numpy"]
            counts = [len(each["fds"].split()) for each in found]
            assert counts[0] == counts[1], "the second worker holds nothing of the first"
            for worker in (one, two):
                worker.handle.close()
                await worker.ended()

    asyncio.run(scenario())


def test_workers_outlive_their_fork_server_and_the_next_one_has_a_new_one(spec: WorkerSpec) -> None:
    async def scenario() -> None:
        async with nursery("forked") as forks:
            first = await Started(spec, forks).ready()
            server = fork_server()
            os.kill(server, signal.SIGKILL)
            until(lambda: not alive(server))
            assert await first.call("look")
            second = await Started(spec, forks).ready()
            assert await second.call("look")
            assert fork_server() != server
            for worker in (first, second):
                worker.handle.close()
                await worker.ended()

    asyncio.run(scenario())


def test_a_worker_that_cannot_be_forked_is_given_up_when_it_is_told_to_end(spec: WorkerSpec) -> None:
    async def scenario() -> None:
        others = set(children(os.getpid(), zombies=True))
        async with nursery("forked") as forks:
            first = await Started(spec, forks).ready()
            server = fork_server()
            os.kill(server, signal.SIGSTOP)
            never = Started(spec, forks)
            never.handle.kill()
            assert await never.ended() == "could not be started"
            assert not never.handle.call(1, [CallRequest("look", 1, (), b"{}", raw=False)])
            os.kill(server, signal.SIGCONT)
            later = await Started(spec, forks).ready()  # the one that nobody wants any more does not stand in its way
            for worker in (first, later):
                worker.handle.close()
                await worker.ended()
            until(lambda: forks.bury_strangers() or others.issuperset(children(os.getpid(), zombies=True)))

    asyncio.run(scenario())


def test_what_models_leave_behind_is_buried(spec: WorkerSpec) -> None:
    async def scenario() -> None:
        async with nursery("forked") as forks:
            worker = await Started(spec, forks).ready()
            ours = subprocess.Popen(["true"])  # a dead child that is somebody else's stands in nobody's way
            orphan = await worker.call("leave_an_orphan")
            until(lambda: orphan not in children(os.getpid()), what="it has ended")
            until(lambda: forks.bury_strangers() or not Path(f"/proc/{orphan}").exists(), what="it is buried")
            assert ours.wait() == 0, "its status is left to whoever started it"
            worker.handle.close()
            assert await worker.ended() == "closed", "a worker's own status is left to its handle"

    asyncio.run(scenario())


def test_a_worker_with_a_queue_before_it_lets_the_node_go_first(spec: WorkerSpec) -> None:
    async def scenario() -> None:
        async with nursery("forked") as forks:
            worker = await Started(spec, forks).ready()
            ours = os.getpriority(os.PRIO_PROCESS, 0)
            for _ in range(32):
                assert set(await worker.call("compute")) == {ours}
            assert set(await worker.call("compute")) == {max(5, ours)}, "every thread of it"
            worker.handle.close()
            await worker.ended()

    asyncio.run(scenario())


def test_a_stream_lets_the_node_go_first(spec: WorkerSpec) -> None:
    async def scenario() -> None:
        async with nursery("forked") as forks:
            worker = await Started(spec, forks).ready()
            assert worker.handle.stream(1, StreamRequest("generate", (), b"{}", raw=False))
            async with asyncio.timeout(30):
                said = await worker.listener.reports.get()
            assert isinstance(said, StreamChunk)
            assert int(said.piece) == max(5, os.getpriority(os.PRIO_PROCESS, 0))
            worker.handle.close()
            await worker.ended()

    asyncio.run(scenario())
