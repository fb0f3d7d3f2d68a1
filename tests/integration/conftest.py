"""Real nodes on loopback, each with a registry of its own; whatever a test leaves running is ended and reported."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parent)]  # so that tests import the harness by its bare name

from harness import RunningNode, pack_into, start_node  # noqa: E402 - found only once the path is set


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The registry of this test, and what SETPOINT_HOME says."""
    home = tmp_path / "home"
    monkeypatch.setenv("SETPOINT_HOME", str(home))
    return home


@pytest.fixture
def pack(home: Path, tmp_path: Path) -> Callable[..., str]:
    """``pack(source)`` packs a path, an ONNX graph (``ModelProto``) or the text of a Python file; returns its name."""
    return lambda source, name="model": pack_into(home, tmp_path, source, name)


@pytest.fixture
def serve(home: Path, tmp_path: Path) -> Iterator[Callable[..., RunningNode]]:
    """``serve(name, …, workers=1, threads=1, limits={"run_timeout_s": 1})`` starts a node and waits until it is ready.

    ``ready=False`` returns as soon as the process exists. Several nodes may be started; none outlives the test.
    """
    nodes: list[RunningNode] = []

    def start(*models: str, **options: object) -> RunningNode:
        node = start_node(home, tmp_path, *models, **options)
        nodes.append(node)
        node.until_ready()
        return node

    def start_unready(*models: str, **options: object) -> RunningNode:
        node = start_node(home, tmp_path, *models, **options)
        nodes.append(node)
        return node

    start.unready = start_unready  # type: ignore[attr-defined]
    yield start
    for node in nodes:
        node.end()
