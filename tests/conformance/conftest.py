"""Real nodes for clients that we did not write: ``setpoint serve`` in a process of its own, one for each test file."""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "integration"), str(TESTS / "conformance")]

from harness import RunningNode, pack_into, start_node  # noqa: E402 - found only once the path is set


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RunningNode]]:
    """``serve({"name": source, …}, **options of start_node)`` packs and serves; returns when the node is ready.

    A source is a path, an ONNX graph (``ModelProto``) or the text of a Python file. Nothing outlives the test file.
    """
    folder = tmp_path_factory.mktemp("conformance")
    nodes: list[RunningNode] = []

    def start(sources: Mapping[str, Any], **options: Any) -> RunningNode:
        names = [pack_into(folder / "home", folder, source, name) for name, source in sources.items()]
        nodes.append(start_node(folder / "home", folder, *names, **options))
        return nodes[-1].until_ready()

    yield start
    for node in nodes:
        node.end()
