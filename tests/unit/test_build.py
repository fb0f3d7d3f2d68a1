"""What an installation builds: the native reader where there is a compiler, and a pure package where there is none."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest

from setpoint.wire.native_numbers import native_library

HOUSE = Path(__file__).resolve().parents[2]
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


def hook() -> ModuleType:
    specification = importlib.util.spec_from_file_location("hatch_build", HOUSE / "hatch_build.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "src" / "setpoint" / "wire" / "native"
    folder.mkdir(parents=True)
    for source in hook().SOURCES:
        shutil.copy(HOUSE / source, folder)
    return tmp_path


@needs_compiler
def test_where_a_compiler_is_tests_run_with_the_native_reader() -> None:
    assert native_library() is not None, "make test builds it; by hand: pip install --no-deps --editable ."


@needs_compiler
def test_it_is_built_once_and_again_for_a_newer_source(root: Path) -> None:
    build = hook()
    library = root / build.LIBRARY
    assert build.build(root) == ""
    assert sorted(path.name for path in library.parent.iterdir()) == ["decimal.h", "numbers.c", library.name]
    os.utime(library, ns=(0, library.stat().st_mtime_ns + 10**9))
    before = library.stat().st_mtime_ns
    assert build.build(root) == ""
    assert library.stat().st_mtime_ns == before
    os.utime(library, ns=(0, 0))
    assert build.build(root) == ""
    assert library.stat().st_mtime_ns > 0


@needs_compiler
def test_a_library_of_another_machine_is_built_anew(root: Path) -> None:
    build = hook()
    library = root / build.LIBRARY
    library.write_bytes(b"\x7fELF of somewhere else")
    assert build.build(root) == ""
    assert build.loading_fails(library) == ""


def test_what_stands_in_the_way_is_said_in_a_line(root: Path) -> None:
    build = hook()
    with patch.dict(os.environ, {"CC": f"{sys.executable} -c 'import sys; sys.exit(\"error: no such thing\")'"}):
        assert build.build(root).endswith("ended with 1: error: no such thing")
    with patch.dict(os.environ, {"CC": "gcc '"}):
        assert build.build(root) == "$CC: No closing quotation"
    with patch.dict(os.environ, {"CC": "/nowhere/cc"}):
        assert "/nowhere/cc" in build.build(root)
    with patch.dict(os.environ, {"CC": "", "PATH": ""}):
        assert build.build(root) == "no C compiler"
    assert not (root / build.LIBRARY).exists()
