"""Workers die, hang, leak and fail; every request is answered all the same, once, and by the stated rule."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from harness import RunningNode, alive, children, until

import setpoint as sp

HOSTILE = '''
import ctypes, os, resource, signal, sys, time
import setpoint as sp

class Hostile(sp.Model):
    def load(self, ctx: sp.Context) -> None:
        # So that "out of memory" means 1 GiB here and not the machine's memory.
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    @sp.endpoint
    def pid(self) -> int:
        time.sleep(0.02)
        return os.getpid()

    @sp.endpoint(batch=32)
    def double(self, xs: list[int]) -> list[int]:
        """Doubles; negative numbers are orders."""
        time.sleep(0.02)
        for x in xs:
            if x == -1:
                ctypes.string_at(0)
            elif x == -2:
                os.kill(os.getpid(), signal.SIGKILL)
            elif x == -3:
                time.sleep(1e6)
            elif x == -4:
                bytearray(8 << 30)
            elif x == -5:
                os._exit(3)
            elif x == -6:
                sys.exit(4)
            elif x == -7:
                raise sp.InvalidInput("no " + "x" * 1_000_000)
            elif x == -8:
                raise sp.InvalidInput("half a character: " + chr(0xD800))
            elif x == -9:
                raise ValueError("x" * 1_000_000)
            elif x <= -1000:
                time.sleep(-x / 1e6)
        return [2 * x for x in xs]
'''
SEGFAULT, SIGKILL, HANG, MEMORY, EXIT, SYS_EXIT, LONG_REFUSAL, SURROGATE, LONG_FAILURE = range(-1, -10, -1)


def busy_s(seconds: float) -> int:
    """The number that keeps ``double`` busy for so long."""
    return -int(seconds * 1e6)


def killed_soon(pid: int, delay_s: float) -> threading.Timer:
    timer = threading.Timer(delay_s, os.kill, (pid, signal.SIGKILL))
    timer.start()
    return timer


def occupied(node: RunningNode, seconds: float) -> threading.Thread:
    """Keep the only worker busy, so that what comes next waits and shares a batch."""
    thread = threading.Thread(target=node.call, args=("model/double",), kwargs={"xs": [busy_s(seconds)]})
    thread.start()
    until(lambda: node.metric("setpoint_workers", state="busy") == 1, what="the worker is busy")
    return thread


def restarts(node: RunningNode, reason: str) -> float:
    return node.metric("setpoint_worker_restarts_total", reason=reason)


# --- death -----------------------------------------------------------------------------------------------------------


def test_requests_of_a_killed_worker_are_answered_right_after_one_retry(pack, serve):
    node = serve(pack(HOSTILE))
    (worker,) = node.workers()
    first = occupied(node, 0.5)
    killer = killed_soon(worker, 0.8)  # while it holds the batch of eight
    answers = node.call_all("model/double", [{"xs": [i, busy_s(0.5), i + 100]} for i in range(8)])
    killer.join()
    first.join()
    expected = [[2 * i, 2 * busy_s(0.5), 2 * i + 200] for i in range(8)]
    assert [answer.json for answer in answers] == expected
    assert not alive(worker)
    assert restarts(node, "died") == 1
    assert 2 <= node.metric("setpoint_request_retries_total") <= 8, "those that shared the batch"
    assert node.outcomes() == {"ok": 9}


def test_a_request_whose_worker_dies_twice_is_refused_with_the_reason(pack, serve):
    node = serve(pack(HOSTILE))
    answer = node.call("model/double", xs=[SIGKILL])
    assert answer.status == 503
    assert "SIGKILL" in answer.error
    assert "tried 2 times" in answer.error
    assert int(answer.headers["retry-after"]) >= 1
    assert node.call("model/double", xs=[7]).json == [14]
    assert restarts(node, "died") == 2
    assert node.outcomes() == {"ok": 1, "worker_lost": 1}


@pytest.mark.parametrize(("order", "reason"), [(SEGFAULT, "SIGSEGV"), (EXIT, "exited with status 3")])
def test_only_the_culprit_pays_when_a_request_kills_the_worker(pack, serve, order, reason):
    node = serve(pack(HOSTILE))
    first = occupied(node, 0.5)
    bodies = [{"xs": [order if i == 10 else i]} for i in range(21)]
    answers = node.call_all("model/double", bodies)
    first.join()
    assert [a.status for a in answers] == [503 if i == 10 else 200 for i in range(21)]
    assert [a.json for i, a in enumerate(answers) if i != 10] == [[2 * i] for i in range(21) if i != 10]
    assert reason in answers[10].error
    assert node.metric("setpoint_request_retries_total") > 1, "nobody shared a batch with it: nothing was shown"


def test_a_worker_that_dies_while_idle_is_replaced(pack, serve):
    node = serve(pack(HOSTILE))
    for _ in range(4):  # more often than the failed starts after which a node refuses
        (worker,) = node.workers()
        os.kill(worker, signal.SIGKILL)
        until(lambda gone=worker: node.workers() not in ([], [gone]) and not alive(gone))
        until(lambda: node.ask("GET", "/v2/health/ready").status == 200)
    answer = node.call("model/pid")
    assert answer.json == node.workers()[0]
    assert restarts(node, "died") == 4


def test_requests_sent_at_the_moment_of_an_idle_workers_death_are_answered(pack, serve):
    node = serve(pack(HOSTILE), workers=2)
    for _ in range(8):
        workers = until(lambda: node.ask("GET", "/v2/health/ready").status == 200 and node.workers())
        killer = threading.Thread(target=os.kill, args=(workers[0], signal.SIGKILL))
        killer.start()
        answers = node.call_all("model/double", [{"xs": [i]} for i in range(8)], timeout_s=10)
        killer.join()
        assert [answer.json for answer in answers] == [[2 * i] for i in range(8)]


def test_a_worker_whose_forked_child_keeps_the_channel_open_is_still_seen_to_die(pack, serve, tmp_path):
    source = f"""
import os, time
import setpoint as sp

class Forks(sp.Model):
    def load(self, ctx: sp.Context) -> None:
        child = os.fork()  # as multiprocessing does; it inherits every descriptor of the worker
        if child == 0:
            time.sleep(60)
            os._exit(0)
        with open({str(tmp_path / "forked")!r}, "a") as file:
            file.write(f"{{child}}\\n")

    @sp.endpoint
    def nap(self, seconds: float) -> int:
        time.sleep(seconds)
        return os.getpid()
"""
    node = serve(pack(source))
    forked = lambda: [int(pid) for pid in (tmp_path / "forked").read_text().split()]  # noqa: E731
    try:
        worker = node.call("model/nap", seconds=0).json
        assert all(map(alive, forked()))
        os.kill(worker, signal.SIGKILL)
        second = until(lambda: [pid for pid in node.workers() if pid not in (worker, *forked())])[0]
        assert node.call("model/nap", timeout_s=10, seconds=0).json == second  # idle when it died
        killer = killed_soon(second, 0.3)
        third = node.call("model/nap", timeout_s=10, seconds=1).json  # busy when it died
        killer.join()
        assert third not in (worker, second)
        assert [alive(pid) for pid in forked()] == [False, False, True], "the forked children of lost workers live on"
        assert node.stop() == 0
        assert not any(map(alive, forked()))
    finally:
        for pid in filter(alive, forked()):
            os.kill(pid, signal.SIGKILL)


def test_a_worker_that_closes_every_descriptor_is_replaced(pack, serve):
    source = """
import os, time
import setpoint as sp

class Daemonizer(sp.Model):
    @sp.endpoint
    def pid(self) -> int:
        return os.getpid()

    @sp.endpoint
    def close_all(self, linger: float) -> int:
        os.closerange(3, 256)
        time.sleep(linger)
        return 0
"""
    node = serve(pack(source))
    worker = node.call("model/pid").json
    begun_s = time.monotonic()
    answer = node.call("model/close_all", timeout_s=30, linger=600)
    assert answer.status == 503
    assert time.monotonic() - begun_s < 30
    assert node.call("model/pid").json != worker
    assert not alive(worker)


def test_one_models_crashes_do_not_reach_another(pack, serve):
    node = serve(pack(HOSTILE), pack(HOSTILE, "other"))
    ending = threading.Event()

    def crash() -> None:
        while not ending.is_set():
            node.call("model/double", xs=[EXIT])

    crashing = threading.Thread(target=crash)
    crashing.start()
    try:
        until(lambda: restarts(node, "died") >= 3)
        answers = [node.call("other/double", xs=[i]) for i in range(30)]
    finally:
        ending.set()
        crashing.join()
    assert [answer.json for answer in answers] == [[2 * i] for i in range(30)]
    assert node.metric("setpoint_worker_restarts_total", model="other") == 0


# --- failing without dying -------------------------------------------------------------------------------------------


def test_running_out_of_memory_fails_the_request_and_not_its_neighbours(pack, serve):
    node = serve(pack(HOSTILE))
    (worker,) = node.workers()
    first = occupied(node, 0.5)
    answers = node.call_all("model/double", [{"xs": [MEMORY if i == 3 else i]} for i in range(6)])
    first.join()
    assert [a.status for a in answers] == [500 if i == 3 else 200 for i in range(6)]
    assert "MemoryError" in answers[3].error
    assert node.workers() == [worker]


def test_sys_exit_in_a_model_is_its_failure_and_not_the_workers_end(pack, serve):
    node = serve(pack(HOSTILE))
    (worker,) = node.workers()
    assert node.call("model/double", xs=[SYS_EXIT]).status == 500
    assert node.workers() == [worker]


@pytest.mark.parametrize(
    ("order", "status", "word"),
    [(LONG_REFUSAL, 400, "no xxx"), (LONG_FAILURE, 500, "ValueError"), (SURROGATE, 400, "half a character")],
)
def test_what_a_model_says_when_it_fails_never_costs_the_worker(pack, serve, order, status, word):
    node = serve(pack(HOSTILE))
    (worker,) = node.workers()
    answer = node.call("model/double", xs=[order])
    assert answer.status == status
    assert word in answer.error
    assert len(answer.error) < 10_000
    assert node.workers() == [worker]


def test_many_long_refusals_in_one_batch_reach_their_callers(pack, serve):
    source = """
import time
import setpoint as sp

class Refuses(sp.Model):
    @sp.endpoint(batch=1024)
    def check(self, xs: list[int]) -> list[int]:
        time.sleep(0.3 if len(xs) == 1 and xs[0] == 0 else 0)
        raise sp.InvalidInput(f"not {xs[0]} " + "x" * 5_000)
"""
    node = serve(pack(source))
    answers = node.call_all("model/check", [{"xs": [i]} for i in range(60)])
    assert [a.status for a in answers] == [400] * 60
    assert node.metric("setpoint_batch_rows_count") < 30, "they hardly shared batches"
    assert all(f"not {i} xx" in a.error for i, a in enumerate(answers))
    assert restarts(node, "died") == 0


# --- hanging ---------------------------------------------------------------------------------------------------------


def test_a_hanging_request_is_refused_after_the_run_timeout_and_its_worker_replaced(pack, serve):
    node = serve(pack(HOSTILE), limits={"run_timeout_s": 1})
    (worker,) = node.workers()
    first = occupied(node, 0.5)
    answers = node.call_all("model/double", [{"xs": [HANG if i == 2 else i]} for i in range(5)])
    first.join()
    assert [a.status for a in answers] == [503 if i == 2 else 200 for i in range(5)]
    assert "did not answer within 1 s" in answers[2].error
    assert "retry-after" in answers[2].headers
    assert not alive(worker)
    assert restarts(node, "run_timeout") == 2


def test_a_hang_longer_than_the_request_may_live_is_reported_as_a_lost_worker(pack, serve):
    """Both time-outs are 60 s by default: the reason must not become "waited for a worker"."""
    node = serve(pack(HOSTILE), limits={"run_timeout_s": 1, "request_timeout_s": 1})
    answer = node.call("model/double", xs=[HANG])
    assert answer.status == 503
    assert "did not answer within 1 s" in answer.error
    assert "tried once" in answer.error


@pytest.mark.parametrize("when", ["busy", "idle"])
def test_a_stopped_worker_is_replaced_and_its_requests_answered(pack, serve, when):
    node = serve(pack(HOSTILE), limits={"run_timeout_s": 1})
    (worker,) = node.workers()
    if when == "busy":
        first = occupied(node, 0.8)
        os.kill(worker, signal.SIGSTOP)
        answers = node.call_all("model/double", [{"xs": [i]} for i in range(4)])
        first.join()
    else:
        os.kill(worker, signal.SIGSTOP)
        answers = node.call_all("model/double", [{"xs": [i]} for i in range(4)])
    assert [a.json for a in answers] == [[2 * i] for i in range(4)]
    assert not alive(worker)


# --- loading ---------------------------------------------------------------------------------------------------------

LOADS_UNLESS = """
import os, time
import setpoint as sp

class Loads(sp.Model):
    def load(self, ctx: sp.Context) -> None:
        flag = {flag!r}
        order = open(flag).read() if os.path.exists(flag) else ""
        if order == "fail":
            raise RuntimeError("the weights are not there")
        if order == "hang":
            time.sleep(1e6)
        if order == "die":
            os._exit(9)

    @sp.endpoint
    def pid(self) -> int:
        return os.getpid()
"""


@pytest.mark.parametrize(
    ("order", "said"), [("fail", "the weights are not there"), ("die", "exited with status 9"), ("hang", "within 1 s")]
)
def test_a_model_that_cannot_be_loaded_ends_the_node_with_one_line(pack, serve, tmp_path, order, said):
    flag = tmp_path / "flag"
    name = pack(LOADS_UNLESS.format(flag=str(flag)))
    flag.write_text(order)
    node = serve.unready(name, workers=2, limits={"load_timeout_s": 1} if order == "hang" else {})
    until(lambda: node.workers() or node.process.poll() is not None)
    assert node.process.wait(20) == 1
    errors = [line for line in node.log.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert said in errors[0]
    assert "model" in errors[0]
    assert "Traceback" not in node.log or "the weights are not there" in node.log
    assert not any(map(alive, node.seen_workers))


def test_a_model_that_stops_loading_refuses_at_once_and_recovers(pack, serve, tmp_path):
    flag = tmp_path / "flag"
    node = serve(pack(LOADS_UNLESS.format(flag=str(flag))))
    flag.write_text("fail")
    os.kill(node.workers()[0], signal.SIGKILL)
    until(lambda: node.call("model/pid").status == 503, 30)
    answer = node.call("model/pid")
    assert answer.status == 503
    assert answer.seconds < 10, "it was to be refused at once"
    assert "the weights are not there" in answer.error
    assert "retry-after" in answer.headers
    assert node.ask("GET", "/v2/health/ready").status == 503
    assert node.ask("GET", "/v2/health/live").status == 200
    flag.unlink()
    until(lambda: node.call("model/pid").status == 200, 30, "it recovers")
    assert node.call("model/pid").status == 200


def test_a_node_that_cannot_start_a_process_for_a_while_starts_one_later(pack, serve):
    node = serve(pack(HOSTILE))
    (worker,) = node.workers()
    in_use = len(list(Path(f"/proc/{node.pid}/fd").iterdir()))
    allowed = resource.prlimit(node.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (in_use - 2, allowed[1]))
    os.kill(worker, signal.SIGKILL)
    until(lambda: not alive(worker))
    time.sleep(1.0)
    resource.prlimit(node.pid, resource.RLIMIT_NOFILE, allowed)
    answer = until(lambda: (a := node.call("model/double", xs=[4])).status == 200 and a, 20, "it recovers")
    assert answer.json == [8]
    assert restarts(node, "not_started") >= 1


def test_files_in_the_working_directory_do_not_replace_libraries_in_the_worker(pack, serve, tmp_path, monkeypatch):
    name = pack(HOSTILE)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for library in ("queue", "numpy", "secrets", "msgspec"):
        (folder / f"{library}.py").write_text("raise RuntimeError('a file of the user, not the library')\n")
    # Where a person stands, and the console script does not put that folder on the path.
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    node = serve(name, console_script=True)
    assert node.call("model/double", xs=[1]).json == [2]
    with sp.serve(tmp_path / "model.py") as service:
        assert service.call("double", xs=[1]) == [2]


def test_a_models_close_is_called_when_the_node_ends(pack, serve, tmp_path):
    source = f"""
import setpoint as sp

class Closes(sp.Model):
    def close(self) -> None:
        open({str(tmp_path / "closed")!r}, "w").close()

    @sp.endpoint
    def one(self) -> int:
        return 1
"""
    node = serve(pack(source))
    assert node.stop() == 0
    assert (tmp_path / "closed").exists()


def test_what_a_model_prints_does_not_reach_the_nodes_standard_output(pack, serve):
    source = """
import os, sys
import setpoint as sp

class Prints(sp.Model):
    def load(self, ctx: sp.Context) -> None:
        print("from load")
        os.write(1, b"from descriptor 1\\n")

    @sp.endpoint
    def one(self) -> int:
        print("from the endpoint")
        return 1
"""
    node = serve(pack(source))
    assert node.call("model/one").json == 1
    assert node.stop() == 0
    assert len(node.stdout_path.read_text().splitlines()) == 1
    assert "from load" in node.log
    assert "from descriptor 1" in node.log
    assert "from the endpoint" in node.log


# --- leaks -----------------------------------------------------------------------------------------------------------


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def shared_maps(pid: int) -> int:
    return Path(f"/proc/{pid}/maps").read_text().count("memfd:setpoint-arena")


def kill_all_and_await(node: RunningNode, workers: int) -> None:
    before = node.workers()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    until(
        lambda: (
            len(now := node.workers()) == workers
            and not set(now) & set(before)
            and node.metric("setpoint_workers", state="idle") == workers
        ),
        60,
        "every worker was replaced",
    )
    # Each of them serves: workers that die before they were of use are replaced ever more slowly.
    served: set[int] = set()
    while served != set(node.workers()):
        served |= {answer.json for answer in node.call_all("model/pid", [{}] * 2 * workers)}


@pytest.mark.parametrize("restarted", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_worker_restarts_leak_neither_descriptors_nor_memory(pack, serve, restarted):
    workers = 4
    node = serve(pack(HOSTILE), workers=workers)
    for _ in range(2):
        kill_all_and_await(node, workers)
    open_before, maps_before, resident_before = descriptors(node.pid), shared_maps(node.pid), resident_kib(node.pid)
    for _ in range(restarted // workers):
        kill_all_and_await(node, workers)
    until(lambda: descriptors(node.pid) <= open_before, 5, "descriptors were given back")
    assert shared_maps(node.pid) <= maps_before
    assert resident_kib(node.pid) - resident_before < 10 * restarted + 2048, "KiB per restart stay behind"
    assert restarts(node, "died") == restarted + 2 * workers
    assert len(children(node.pid)) == len(children(node.pid, zombies=True)) == workers


# --- all of it at once -----------------------------------------------------------------------------------------------


def test_workers_killed_again_and_again_under_load_cost_no_request_beyond_the_rule():
    """Six seconds of ``benchmarks/chaos/run.py``, which runs for a minute by itself."""
    program = Path(__file__).resolve().parents[2] / "benchmarks" / "chaos" / "run.py"
    command = [sys.executable, str(program), "--seconds=6", "--every=0.5", "--connections=32", "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.stdout, ran.stderr
    findings = json.loads(ran.stdout)
    assert findings["failures"] == []
    assert ran.returncode == 0
    assert findings["hangs"] == 0
    assert findings["kills"] >= 8
    assert findings["retries"] >= 1, "no kill hit a worker with a batch: nothing was shown"
    assert set(findings["statuses"]) <= {"200", "503"}
    assert findings["scrapes"] >= 10
