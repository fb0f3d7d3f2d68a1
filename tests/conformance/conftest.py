"""Real nodes for clients that we did not write: ``setpoint serve`` in a process of its own, one for each test file."""

import ctypes.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "integration"), str(TESTS / "conformance")]

from environments import python_of  # noqa: E402 - found only once the path is set
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


@pytest.fixture(scope="module")
def perf_analyzer() -> Callable[..., str]:
    """Run it to its end; what it printed."""
    if ctypes.util.find_library("b64") is None:
        pytest.skip("perf_analyzer's binary needs libb64 (Debian: apt-get install libb64-0d)")
    program = python_of("perf").with_name("perf_analyzer")
    (cuda,) = program.parents[1].glob("lib/python3*/site-packages/nvidia/cuda_runtime/lib")

    def run(*options: str) -> str:
        # Windows as short as they can be, and any spread between them will do: what it measures is not what is asked.
        short = ("--measurement-mode=count_windows", "--measurement-request-count=20", "-r3", "-s999")
        done = subprocess.run(
            [program, "-m", "twice", *short, *options],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "LD_LIBRARY_PATH": str(cuda)},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
