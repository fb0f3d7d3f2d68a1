"""How much memory the machine has and how much a process holds."""

from __future__ import annotations

import os
import subprocess

from setpoint.machine.files import read_text

_KIB = 1024


def parse_meminfo(text: str) -> dict[str, int]:
    """Read ``/proc/meminfo``: name → bytes. Rows that count pages instead of kB are left out."""
    rows: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            rows[name] = int(value[: -len(" kB")]) * _KIB
    return rows


def parse_statm_resident(text: str, page_bytes: int) -> int:
    """Read the resident bytes out of ``/proc/PID/statm`` (its second field, in pages)."""
    return int(text.split()[1]) * page_bytes


def parse_smaps_pss(text: str) -> int:
    """Read the ``Pss:`` row of ``/proc/PID/smaps_rollup`` in bytes."""
    return parse_meminfo(text)["Pss"]


def rss_bytes(pid: int) -> int:
    """Resident memory of a process, shared pages counted in full; 0 when it has gone."""
    text = read_text(f"/proc/{pid}/statm")
    if text:
        return parse_statm_resident(text, os.sysconf("SC_PAGE_SIZE"))
    if os.path.isdir("/proc/self"):  # Linux, and no such process
        return 0
    answer = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S607
    return int(answer.stdout.strip() or 0) * _KIB


def pss_bytes(pid: int) -> int:
    """Resident memory of a process, each shared page divided by the processes that share it; 0 when it has gone.

    Adding up PSS over the node and its workers gives what they hold together; adding up RSS counts shared libraries
    once per process. Where the kernel does not tell (macOS, another user's process) this is the RSS, which is never
    below it.
    """
    text = read_text(f"/proc/{pid}/smaps_rollup")
    return parse_smaps_pss(text) if text else rss_bytes(pid)


def total_bytes() -> int:
    """Memory of the machine, limits aside."""
    rows = parse_meminfo(read_text("/proc/meminfo") or "")
    return rows.get("MemTotal") or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def available_bytes() -> int:
    """Memory that can be taken without swapping, limits aside. Where the system does not say, what it has in all."""
    rows = parse_meminfo(read_text("/proc/meminfo") or "")
    return rows.get("MemAvailable") or total_bytes()
