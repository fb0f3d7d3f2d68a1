"""Models come, go, sleep and wake while a node serves; nobody who was accepted goes without an answer."""

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from harness import Answer, RunningNode, alive, children, until

from setpoint.registry import Registry

TOKEN = "a-token-of-these-tests"
BALLAST_MIB = 80
MEMORY = "--memory=290MiB"
"""Room for the node and two models with ballast, not for three."""

MODEL = """
import os, time
import numpy as np
import setpoint as sp

class Model(sp.Model):
    def load(self, ctx: sp.Context) -> None:
        {load}

    @sp.endpoint
    def pid(self) -> int:
        return os.getpid()

    @sp.endpoint
    def version(self) -> int:
        return {version}

    @sp.endpoint
    def nap(self, seconds: float) -> int:
        time.sleep(seconds)
        return {version}
"""


def model(version: int = 1, load: str = "pass") -> str:
    return MODEL.format(version=version, load=load)


HEAVY = model(load=f"self.ballast = np.ones({BALLAST_MIB} << 20, np.uint8)")
SLOW = model(load="time.sleep(1.5)")


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SETPOINT_ADMIN_TOKEN", TOKEN)


def admin(node: RunningNode, path: str, body: Any = None, token: str = TOKEN) -> Answer:
    return node.ask("POST", f"/v2/repository/{path}", body, headers={"authorization": f"Bearer {token}"})


def load(node: RunningNode, name: str) -> Answer:
    return admin(node, f"models/{name}/load")


def unload(node: RunningNode, name: str) -> Answer:
    return admin(node, f"models/{name}/unload")


def index(node: RunningNode) -> dict[str, dict[str, str]]:
    return {entry["name"]: entry for entry in admin(node, "index").json}


def loaded(node: RunningNode, name: str) -> None:
    answer = load(node, name)
    assert (answer.status, answer.body) == (200, b""), answer.body


@pytest.fixture
def heavy(pack: Callable[..., str]) -> list[str]:
    return [pack(HEAVY, f"heavy{number}") for number in range(4)]


# --- a bound of memory ----------------------------------------------------------------------------------------------


def test_models_take_turns_in_the_memory_that_there_is(serve: Callable[..., RunningNode], heavy: list[str]) -> None:
    node = serve(*heavy, options=[MEMORY])
    for _ in range(2):
        for name in heavy:
            assert node.call(f"{name}/pid").status == 200
            assert node.ask("GET", "/v2/health/ready").status == 200, "a parked model is ready: it can answer"
    bound = node.metric("setpoint_memory_bound_bytes")
    until(lambda: node.metric("setpoint_memory_held_bytes") <= bound, what="as measured, it is within its bound")
    assert len(node.workers()) <= 2
    assert node.metric("setpoint_model_parks_total") >= 4
    states = index(node)
    assert {states[name]["state"] for name in heavy} == {"READY"}
    assert "parked" in {states[name].get("reason") for name in heavy}


def parked(node: RunningNode, names: list[str]) -> str:
    """A model that is parked now."""
    return until(lambda: next((name for name in names if index(node)[name].get("reason") == "parked"), ""))


def test_many_requests_for_a_parked_model_wake_it_once(serve: Callable[..., RunningNode], heavy: list[str]) -> None:
    node = serve(*heavy, options=[MEMORY])
    name = parked(node, heavy)
    before = node.metric("setpoint_model_wakes_total", model=name)
    answers = node.call_all(f"{name}/pid", [{}] * 20)
    assert {answer.status for answer in answers} == {200}
    assert len({answer.json for answer in answers}) == 1
    assert node.metric("setpoint_model_wakes_total", model=name) == before + 1


def test_a_request_that_cannot_wait_for_the_wake_is_told_how_long_it_takes_and_still_brings_it_about(
    serve: Callable[..., RunningNode], heavy: list[str]
) -> None:
    node = serve(*heavy, options=[MEMORY])
    name = parked(node, heavy)
    before = node.metric("setpoint_model_wakes_total", model=name)
    refused = node.ask("POST", f"/models/{name}/pid", {}, headers={"setpoint-timeout-ms": "5"})
    assert refused.status == 503
    assert "is parked; it will be awake in about" in refused.error
    assert "longer than the 0.005 s that the request may wait" in refused.error
    assert int(refused.headers["retry-after"]) >= 1
    until(lambda: node.metric("setpoint_model_wakes_total", model=name) == before + 1)
    assert node.ask("POST", f"/models/{name}/pid", {}, headers={"setpoint-timeout-ms": "5000"}).status == 200


def test_a_model_that_cannot_wake_is_not_ready_and_the_others_are(
    serve: Callable[..., RunningNode], pack: Callable[..., str], tmp_path: Path
) -> None:
    flag = tmp_path / "broken"
    flag.touch()
    fragile = pack(model(load=f"assert not os.path.exists({str(flag)!r}), 'the disk is gone'"), "fragile")
    node = serve(pack(model(), "sound"), fragile, options=["--memory=1GiB"])
    answer = node.call("fragile/pid")
    assert answer.status == 503
    assert "could not be woken" in answer.error
    assert "the disk is gone" in answer.error
    assert node.call("sound/pid").status == 200
    assert node.ask("GET", "/v2/models/fragile/ready").status == 503
    assert node.ask("GET", "/v2/health/ready").status == 503
    assert index(node)["fragile"]["state"] == "UNAVAILABLE"
    flag.unlink()
    loaded(node, "fragile")
    assert node.call("fragile/pid").status == 200
    assert node.ask("GET", "/v2/health/ready").status == 200


def test_a_worker_killed_while_it_wakes_fails_its_requests_with_the_reason_and_the_next_wake_serves(
    serve: Callable[..., RunningNode], pack: Callable[..., str]
) -> None:
    source = model(load=f"time.sleep(0.5); self.ballast = np.ones({BALLAST_MIB} << 20, np.uint8)")
    names = [pack(source, f"slow{number}") for number in range(3)]
    node = serve(*names, options=[MEMORY])
    name = parked(node, names)
    with ThreadPoolExecutor(4) as pool:
        before = set(node.workers())
        cold = [pool.submit(node.call, f"{name}/pid") for _ in range(4)]
        (waking,) = until(lambda: set(node.workers()) - before, 60, "the others have had their stay")
        time.sleep(0.1)
        os.kill(waking, signal.SIGKILL)
        answers = [request.result() for request in cold]
    assert {answer.status for answer in answers} == {503}
    assert all("SIGKILL" in answer.error for answer in answers)
    assert until(lambda: node.call(f"{name}/pid").status == 200, 60, "it is woken again")


def test_a_model_larger_than_the_memory_is_refused_at_the_start_with_numbers(
    home: Path, serve: Callable[..., RunningNode], pack: Callable[..., str], encoder: Path
) -> None:
    name = pack(encoder, "wide")
    node = serve.unready(name, options=["--memory=85MiB"])  # type: ignore[attr-defined]
    assert node.process.wait(30) == 2
    assert "model 'wide' needs more than 64 MiB, and --memory leaves for models" in node.log
    node = serve.unready(name, options=["--memory=20MiB"])  # type: ignore[attr-defined]
    assert node.process.wait(30) == 2
    assert "--memory 20 MiB leaves nothing for models: the node itself holds" in node.log


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """An ONNX model of 64 MiB."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((4096, 4096), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4096])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4096])],
        [weights],
    )
    path = tmp_path / "source.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


# --- coming and going -----------------------------------------------------------------------------------------------


class Clients:
    """Ask without a pause until told to stop; every answer that is no 200 is kept."""

    def __init__(self, node: RunningNode, route: str, threads: int = 4) -> None:
        self._node, self._route = node, route
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(threads)]
        self.answers = 0
        self.failures: list[bytes] = []
        self.seen: set[int] = set()

    def _ask(self) -> None:
        while not self._stop.is_set():
            answer = self._node.call(self._route)
            self.answers += 1
            if answer.status == 200:
                self.seen.add(answer.json)
            else:
                self.failures.append(answer.body)

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_versions_are_swapped_under_load_without_a_failed_request(
    serve: Callable[..., RunningNode], pack: Callable[..., str]
) -> None:
    """A few swaps of ``benchmarks/lifecycle/swap.py``, which goes on for a minute."""
    node = serve(pack(model(1)))
    with Clients(node, "model/version") as clients:
        for version in (2, 3, 4):
            pack(model(version))
            loaded(node, "model")
            until(lambda version=version: version in clients.seen)
            assert node.call("model/version").json == version, "requests reach the new one from the load's end on"
    assert clients.failures == []
    assert clients.seen == {1, 2, 3, 4}
    until(lambda: len(node.workers()) == 1, what="the old workers have ended")
    assert node.ask("GET", "/v2/models/model").json["versions"] == ["4"]


def test_requests_in_the_old_version_are_answered_by_it(
    serve: Callable[..., RunningNode], pack: Callable[..., str]
) -> None:
    node = serve(pack(model(1)))
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(node.call, "model/nap", seconds=0.4) for _ in range(4)]
        until(lambda: node.metric("setpoint_requests_in_flight") == 4)
        pack(model(2))
        loaded(node, "model")
        assert node.call("model/version").json == 2
        assert [request.result().json for request in waiting] == [1, 1, 1, 1]


def test_a_version_that_cannot_be_loaded_leaves_the_old_one_in_its_place(
    serve: Callable[..., RunningNode], pack: Callable[..., str]
) -> None:
    node = serve(pack(model(1)))
    worker = node.workers()
    pack(model(2, load="raise ValueError('weights do not fit')"))
    answer = load(node, "model")
    assert answer.status == 400
    assert "model model:2 cannot be loaded" in answer.error
    assert "weights do not fit" in answer.error
    assert node.call("model/version").json == 1
    until(lambda: node.workers() == worker, what="nothing is left of the attempt")
    assert index(node)["model"] == {"name": "model", "version": "1", "state": "READY"}


def test_two_loads_of_one_name_at_once_start_it_once(
    serve: Callable[..., RunningNode], pack: Callable[..., str]
) -> None:
    node = serve(pack(model()))
    pack(SLOW, "slow")
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: load(node, "slow"), range(2)))
    assert [answer.status for answer in answers] == [200, 200]
    assert node.metric("setpoint_model_wakes_total", model="slow") == 1
    assert len(node.workers()) == 2


def test_an_unloaded_model_answers_what_it_accepted_and_is_not_found_afterwards(
    serve: Callable[..., RunningNode], pack: Callable[..., str]
) -> None:
    node = serve(pack(model(), "stays"), pack(model(), "goes"))
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(node.call, "goes/nap", seconds=0.3) for _ in range(3)]
        until(lambda: node.metric("setpoint_requests_in_flight", model="goes") == 3)
        assert unload(node, "goes").status == 200
        assert node.call("goes/version").status == 404
        assert index(node)["goes"]["state"] == "UNLOADING"
        assert [request.result().status for request in waiting] == [200, 200, 200]
    gone = {"name": "goes", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}
    until(lambda: index(node)["goes"] == gone)
    assert len(node.workers()) == 1
    assert node.call("stays/version").status == 200
    assert node.ask("GET", "/v2/health/ready").status == 200
    assert unload(node, "goes").status == 200, "there is nothing more to do"
    loaded(node, "goes")
    assert node.call("goes/version").status == 200


def test_a_load_while_the_same_version_still_leaves_starts_it_anew(
    serve: Callable[..., RunningNode], pack: Callable[..., str]
) -> None:
    node = serve(pack(model()))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(node.call, "model/nap", seconds=1.0)
        until(lambda: node.metric("setpoint_requests_in_flight") == 1)
        assert unload(node, "model").status == 200
        loaded(node, "model")
        assert node.call("model/version").status == 200
        assert waiting.result().status == 200
    until(lambda: len(node.workers()) == 1)


def test_a_load_follows_an_alias_that_was_moved(
    home: Path, serve: Callable[..., RunningNode], pack: Callable[..., str]
) -> None:
    registry = Registry(home)
    for version in (1, 2, 3):
        pack(model(version))
    registry.set_alias("model", "champion", 2)
    node = serve("model:champion")
    assert node.call("model/version").json == 2
    loaded(node, "model")
    assert node.call("model/version").json == 2, "not the newest: it was asked for by its alias"
    registry.set_alias("model", "champion", 1)
    loaded(node, "model")
    assert node.call("model/version").json == 1
    assert node.ask("GET", "/v2/models/model/versions/champion").status == 200
    loaded(node, "model:3")
    assert node.call("model/version").json == 3
    assert node.ask("GET", "/v2/models/model/versions/champion").status == 404


def test_ctrl_c_during_a_load_ends_the_node_in_order(
    serve: Callable[..., RunningNode], pack: Callable[..., str]
) -> None:
    node = serve(pack(model()))
    pack(model(load="time.sleep(60)"), "endless")
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load, node, "endless")
        until(lambda: len(node.workers()) == 2)
        forks = set(children(node.pid, fork_servers=True)) - set(node.workers())
        node.signal(signal.SIGINT)
        answer = loading.result()
        assert answer.status == 503
        assert "shutting down" in answer.error
        assert node.process.wait(10) == 0
    assert not any(map(alive, forks | node.seen_workers))
    assert "bug" not in node.log


# --- who may --------------------------------------------------------------------------------------------------------


@pytest.fixture
def plain(serve: Callable[..., RunningNode], pack: Callable[..., str]) -> RunningNode:
    return serve(pack(model()))


def test_without_a_token_nobody_may(
    monkeypatch: pytest.MonkeyPatch, serve: Callable[..., RunningNode], pack: Callable[..., str]
) -> None:
    monkeypatch.delenv("SETPOINT_ADMIN_TOKEN")
    node = serve(pack(model()))
    for path in ("index", "models/model/load", "models/model/unload"):
        answer = admin(node, path)
        assert answer.status == 403
        assert "--admin-token-file" in answer.error
    assert node.call("model/version").status == 200


def test_a_token_must_be_shown_and_be_the_right_one(plain: RunningNode) -> None:
    for path in ("index", "models/model/load", "models/model/unload"):
        unsaid = plain.ask("POST", f"/v2/repository/{path}")
        assert (unsaid.status, unsaid.headers["www-authenticate"]) == (401, "Bearer")
        assert admin(plain, path, token=TOKEN[:-1]).status == 403
    assert plain.call("model/version").status == 200


def test_a_token_file_goes_before_the_environment(
    serve: Callable[..., RunningNode], pack: Callable[..., str], tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("another-token-than-that\n")
    node = serve(pack(model()), options=[f"--admin-token-file={file}"])
    assert admin(node, "index", token="another-token-than-that").status == 200
    assert admin(node, "index").status == 403


@pytest.mark.parametrize("body", [b"", b"{}", {"ready": True}])
def test_the_index_lists_what_is_served_and_what_could_be(
    plain: RunningNode, pack: Callable[..., str], body: Any
) -> None:
    pack(model(), "other")
    entries = admin(plain, "index", body).json
    expected = [{"name": "model", "version": "1", "state": "READY"}]
    if not isinstance(body, dict):
        expected.append({"name": "other", "version": "1", "state": "UNAVAILABLE", "reason": "not loaded"})
    assert entries == expected


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("models/nobody/load", None, 404, "nobody"),
        ("models/nobody/unload", None, 404, "no model is called 'nobody'"),
        ("models/No Name/load", None, 400, "not valid"),
        ("models/model/load", {"parameters": {"file:1/model.onnx": "AAAA"}}, 400, "setpoint pack PATH"),
        ("models/model/load", {"parameters": {"config": "{}"}}, 400, "cannot be sent with a load"),
        ("models/model/load", b"[", 400, "not a repository request"),
        pytest.param("models/model/load", b'{"more":' + b"[" * 100_000, 400, "nested too deeply", id="nested"),
        ("models/model/versions/1/load", None, 404, "expected /v2/repository/models/NAME/load"),
        ("models/model/burn", None, 404, "expected /v2/repository/models/NAME/load"),
    ],
)
def test_what_cannot_be_done_is_said(plain: RunningNode, path: str, body: Any, status: int, message: str) -> None:
    answer = admin(plain, path.replace(" ", "%20"), body)
    assert answer.status == status
    assert message in answer.error
    assert plain.call("model/version").status == 200
