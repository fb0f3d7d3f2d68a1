"""``sp.serve`` from Python: a real node in the background, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import setpoint as sp
from setpoint.core import BundleNotFound, InvalidConfiguration, InvalidRequest, ModelError, NotFound, SetpointError

sklearn_linear = pytest.importorskip("sklearn.linear_model")


def shout(text: str, times: int = 1) -> str:
    """Say it louder."""
    return text.upper() * times


def count(to: int) -> Iterator[int]:
    if to < 0:
        raise sp.InvalidInput("count upwards")
    yield from range(to)
    if to == 3:
        raise RuntimeError("three is too much")


def processes_of(service: sp.Service) -> list[int]:
    return [service._process.pid, *map(int, _children(service._process.pid))]


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def gone(pid: int) -> bool:
    """Ended, or ended and waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until_gone(pids: list[int], timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while not all(map(gone, pids)):
        assert time.monotonic() < end, f"still there: {[pid for pid in pids if not gone(pid)]}"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def estimator() -> object:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 3)).astype(np.float32)
    return sklearn_linear.LogisticRegression().fit(features, (features[:, 0] > 0).astype(np.int64))


def test_an_estimator_answers_as_it_does_itself_and_leaves_nothing_behind(estimator: object) -> None:
    rows = np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32)
    with sp.serve(estimator, objective="p99<=50ms", name="sign") as service:
        answer = service.infer({"X": rows})
        pids = processes_of(service)
        assert len(pids) == 3, "the node, the process that workers are forked from, and a worker"
        home = Path(service._folder.name)
        assert home.is_dir()
    np.testing.assert_array_equal(answer["label"], estimator.predict(rows))  # type: ignore[attr-defined]
    np.testing.assert_allclose(answer["probabilities"], estimator.predict_proba(rows), atol=1e-5)  # type: ignore[attr-defined]
    wait_until_gone(pids)
    assert not home.exists()


def test_a_function_becomes_an_endpoint_with_its_types(tmp_path: Path) -> None:
    with sp.serve(shout) as service:
        assert service.call("shout", text="grüße", times=2) == "GRÜSSEGRÜSSE"
        assert service.call("shout", text="a") == "A"
        with pytest.raises(InvalidRequest, match=r"text.*str"):
            service.call("shout", text=3)
        with pytest.raises(NotFound, match="did you mean"):
            service.call("shouts", text="a")
        assert 'outcome="ok"' in service.metrics()


def test_a_generator_streams_and_breaks_off_with_its_error() -> None:
    with sp.serve(count) as service:
        assert list(service.stream("count", to=2)) == [0, 1]
        with pytest.raises(InvalidRequest, match="count upwards"):
            list(service.stream("count", to=-1))
        events = service.stream("count", to=3)
        assert [next(events) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ModelError, match="three is too much"):
            next(events)
        assert list(service.stream("count", to=1)) == [0]  # the worker is free again


def test_what_cannot_be_served_says_so_at_once(estimator: object) -> None:
    with pytest.raises(BundleNotFound, match="no file or folder"):
        sp.serve("no-such-model")
    with pytest.raises(InvalidConfiguration, match="expected a path"):
        sp.serve(3)
    with pytest.raises(InvalidConfiguration, match="not understood"):
        sp.serve(estimator, objective="fast")
    with sp.serve(shout) as service:
        port = int(service.url.rpartition(":")[2])
        with pytest.raises(SetpointError, match="--port"):
            sp.serve(shout, port=port)


def test_the_node_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = tmp_path / "starter.py"
    script.write_text(
        "import time, setpoint as sp\n"
        "def echo(text: str) -> str:\n"
        "    return text\n"
        "service = sp.serve(echo)\n"
        "print(service._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    starter = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    try:
        assert starter.stdout is not None
        node = int(starter.stdout.readline())
        pids = [node, *map(int, _children(node))]
        os.kill(starter.pid, signal.SIGKILL)
        wait_until_gone(pids)
    finally:
        starter.kill()
        starter.wait()
        if starter.stdout is not None:
            starter.stdout.close()
