"""Builds the native reader of JSON numbers where there is a C compiler; without one, the installation goes on.

``$CC`` names the compiler, else the first of cc, gcc and clang is taken. No flag names a processor: what is built here
must run on other machines of the same architecture.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("src/setpoint/wire/native")
SOURCES = (FOLDER / "numbers.c", FOLDER / "decimal.h")
"""The first is compiled and includes the others."""
LIBRARY = FOLDER / "setpoint_numbers.so"
FLAGS = ("-O3", "-std=c11", "-fPIC", "-shared", "-fvisibility=hidden")
TIME_LIMIT_S = 120


class NativeReaderHook(BuildHookInterface[Any]):
    """For wheels and editable installations."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before files are gathered, and say for which platform the wheel is; ``version`` may be "editable"."""
        root = Path(self.root)
        reason = build(root)
        if reason:
            (root / LIBRARY).unlink(missing_ok=True)  # of another source or another machine
            self.app.display_warning(f"without the native reader of JSON numbers, the quicker one: {reason}")
            return
        build_data["artifacts"].append(f"/{LIBRARY}")  # which git ignores
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def build(root: Path) -> str:
    """Compile, unless the library is here and newer than its source; returns why it cannot be had, or nothing."""
    library = root / LIBRARY
    changed = max((root / source).stat().st_mtime for source in SOURCES)
    if library.exists() and library.stat().st_mtime >= changed and not loading_fails(library):
        return ""
    try:
        stated = shlex.split(os.environ.get("CC", ""))
    except ValueError as error:
        return f"$CC: {error}"
    compiler = stated or [name for name in ("cc", "gcc", "clang") if shutil.which(name)][:1]
    if not compiler:
        return "no C compiler"
    made = library.with_suffix(f".{os.getpid()}")  # a process that has the old one open must not see it change
    try:
        done = subprocess.run(
            [*compiler, *FLAGS, "-o", str(made), str(root / SOURCES[0])],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIME_LIMIT_S,
            check=False,
        )
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "error" in line] or ["no reason given"]
            return f"{compiler[0]} ended with {done.returncode}: {lines[0].strip()}"
        if reason := loading_fails(made):
            return reason
        made.replace(library)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    finally:
        made.unlink(missing_ok=True)
    return ""


def loading_fails(library: Path) -> str:
    """Why a library cannot be used on this machine; empty where it can."""
    try:
        ctypes.CDLL(str(library)).setpoint_numbers_abi()
    except (OSError, AttributeError) as error:
        return str(error)
    return ""
