"""Every route of a node, fuzzed from its own OpenAPI document: no server error, no answer that it does not describe."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from environments import python_of
from harness import RunningNode
from served_models import HALVES, TEXTS, TWICE

KINDS = """
from collections.abc import Iterator

import msgspec
import setpoint as sp

class Point(msgspec.Struct):
    x: float
    y: float = 0.0
    tags: list[str] = []

class Kinds(sp.Model):
    @sp.endpoint
    def moved(self, point: Point, by: int = 1) -> Point:
        return point

    @sp.endpoint(batch=8)
    def lengths(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]

    @sp.endpoint
    def said(self, prompt: str) -> str:
        return prompt

    @sp.endpoint
    def words(self, prompt: str) -> Iterator[str]:
        yield from prompt.split()

    @sp.endpoint
    def size(self, data: bytes) -> int:
        return len(data)
"""
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.mark.slow  # 3,000 requests
def test_every_route_does_what_the_document_says(serve: Callable[..., RunningNode], tmp_path: Path) -> None:
    node = serve({"twice": TWICE, "texts": TEXTS, "halves": HALVES, "kinds": KINDS})
    document = f"http://127.0.0.1:{node.port}/openapi.json"
    program = python_of("schemathesis").with_name("schemathesis")
    options = ["--phases", "examples,coverage,fuzzing", "--max-examples", "15", "--seed", "1", "--checks", CHECKS]
    done = subprocess.run(
        [program, "--no-color", "run", document, *options, "--generation-database", "none"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    selected, in_all = map(int, re.findall(r"Selected: (\d+)/(\d+)", done.stdout)[0])
    assert selected == in_all == int(re.findall(r"Tested: (\d+)", done.stdout)[0])
    assert selected > 50
    assert int(re.findall(r"(\d+) generated", done.stdout)[0]) > 1000
    assert "bug" not in node.log
