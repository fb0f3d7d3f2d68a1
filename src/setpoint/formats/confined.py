"""The bounds of the packing process: memory, time, no network. Set before its first import, so that nothing escapes.

A converter reads files of strangers. One that loops or allocates without end is ended, and one that wants to send
something finds no network. Code that the user wrote, or trusts, keeps the network: it may need what it loads from.
"""

from __future__ import annotations

import sys
from pathlib import Path

from setpoint.machine import read_machine

TIME_LIMIT_S = 1800.0
"""Exporting and checking a large transformer takes minutes; what takes longer than this does not end."""
_LEAST_MEMORY_BYTES = 2 << 30
_MEMORY_SHARE = 0.8
MEMORY_EXIT_CODE = 86
"""How the packing process says that it was refused memory."""

# A network namespace of its own: as root, or where users may make namespaces, in one of its own with the same identity.
# RLIMIT_DATA and not RLIMIT_AS: numeric libraries reserve address space by the gigabyte that they never touch.
_BOOTSTRAP = """
import ctypes, os, resource, runpy, sys
limit, network = int(sys.argv[1]), sys.argv[2] == "network"
soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
if not network and sys.platform == "linux":
    libc, user, group = ctypes.CDLL(None), os.geteuid(), os.getegid()
    if libc.unshare(0x40000000) and not libc.unshare(0x50000000):
        for path, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            try:
                with open(f"/proc/self/{path}", "w") as file:
                    file.write(text)
            except OSError:
                pass
sys.argv[1:] = []
runpy.run_module("setpoint.formats.child", run_name="__main__", alter_sys=True)
"""


def command(source: Path, trust: bool) -> list[str]:
    """The packing process's command line.

    -P: a file in the current folder called ``onnx.py`` must not stand in for the library of that name.
    """
    network = "network" if trust or _is_own_code(source) else "alone"
    return [sys.executable, "-P", "-c", _BOOTSTRAP, str(memory_limit_bytes()), network]


def memory_limit_bytes() -> int:
    """Most bytes the packing process may allocate: a share of what is available now."""
    return max(_LEAST_MEMORY_BYTES, int(_MEMORY_SHARE * read_machine().memory_available_bytes))


def _is_own_code(source: Path) -> bool:
    """Whether packing imports Python that the user wrote."""
    return source.suffix == ".py" or (source.is_dir() and any(source.glob("*.py")))
