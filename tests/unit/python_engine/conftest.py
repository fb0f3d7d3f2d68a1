"""Real model classes, written to a folder and loaded by the real engine."""

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from setpoint.engines import EngineOptions
from setpoint.engines.python import PythonEngine, PythonExecutable

Load = Callable[..., PythonExecutable]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """Load the body of a class as model ``M``; closed at the end."""
    loaded: list[PythonExecutable] = []

    def load_class(body: str, *, before: str = "", worker: int = 0, threads: int = 1) -> PythonExecutable:
        lines = [
            "from collections.abc import AsyncIterator, Iterator",
            "from typing import Any, Literal",
            "import asyncio",
            "import msgspec",
            "import numpy as np",
            "import setpoint as sp",
            textwrap.dedent(before),
            "class M(sp.Model):",
            textwrap.indent(textwrap.dedent(body), "    "),
        ]
        path = tmp_path / f"model{len(loaded)}.py"
        path.write_text("\n".join(lines))
        executable = PythonEngine(worker).load(path, "M", EngineOptions(threads=threads))
        loaded.append(executable)
        return executable

    yield load_class
    for executable in loaded:
        executable.close()
