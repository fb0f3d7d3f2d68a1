"""``setpoint serve`` from a file: what it says is what runs."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import RunningNode

ECHO = """
import setpoint as sp

class Echo(sp.Model):
    @sp.endpoint
    def say(self, text: str) -> str:
        return text
"""


@pytest.fixture
def start(home: Path, tmp_path: Path) -> Iterator[Callable[..., RunningNode]]:
    nodes: list[RunningNode] = []

    def start_it(*arguments: str, **environment: str) -> RunningNode:
        log, out = tmp_path / f"{len(nodes)}.log", tmp_path / f"{len(nodes)}.out"
        with log.open("wb") as stderr, out.open("wb") as stdout:
            process = subprocess.Popen(
                [sys.executable, "-m", "setpoint", "serve", "--json", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=tmp_path,
                env={**os.environ, "SETPOINT_HOME": str(home), **environment},
            )
        nodes.append(RunningNode(process, log, out))
        return nodes[-1].until_ready()

    yield start_it
    for node in nodes:
        node.end()


def test_a_file_is_enough(start: Callable[..., RunningNode], pack: Callable[..., str], tmp_path: Path) -> None:
    pack(ECHO, "packed")
    (tmp_path / "beside.py").write_text(ECHO)
    (tmp_path / "setpoint.toml").write_text(
        "[node]\nport = 0\n[limits]\njson_limit_bytes = 100\n"
        '[[models]]\nsource = "packed"\nworkers = 2\n[[models]]\nsource = "beside.py"\nname = "beside"\nthreads = 1\n'
    )
    node = start()
    said = {model["name"]: model for model in json.loads(node.stdout_path.read_text())["models"]}
    assert (said["packed"]["workers"], said["beside"]["workers"], said["beside"]["threads"]) == (2, 1, 1)
    for model in ("packed", "beside"):
        assert node.call(f"{model}/say", text="hello").json == "hello"
    assert node.call("packed/say", text="x" * 100).status == 413


def test_variables_and_flags_go_before_it(
    start: Callable[..., RunningNode], pack: Callable[..., str], tmp_path: Path
) -> None:
    pack(ECHO, "packed")
    (tmp_path / "other.toml").write_text('[limits]\njson_limit_bytes = 100\n[[models]]\nsource = "nowhere"\n')
    node = start("packed", "--config", "other.toml", "--port", "0", SETPOINT_LIMITS_JSON_LIMIT_BYTES="50")
    assert node.call("packed/say", text="x" * 30).status == 200
    assert node.call("packed/say", text="x" * 60).status == 413
