"""What the control groups of this process allow, read from version 1, version 2 and hybrid hierarchies.

A limit may stand on any group between ours and the root, so the tightest one counts. Where a container shows only a
part of the hierarchy (its mount's root is not ``/``), the visible part is what can be read; the kernel applies the rest
all the same, and a container runtime puts its limits on the visible part.

Sources: ``cgroups(7)``; kernel documentation, admin-guide/cgroup-v1/{memory,sched-bwc} and admin-guide/cgroup-v2.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator

import msgspec

Read = Callable[[str], str | None]
"""Gives the text of a file, or None where it cannot be read. Tests pass a dictionary's ``get``."""

V2 = ""
"""Controller name under which ``/proc/self/cgroup`` lists the version 2 group."""

_LIMITING = ("cpu", "memory")  # the version 1 controllers that limit what we ask about
_UNLIMITED_BYTES = 1 << 62  # v1 says "no limit" with LONG_MAX rounded down to a page; nothing real comes near


class CgroupMount(msgspec.Struct, frozen=True):
    """One mounted hierarchy.

    Attributes:
        controllers: which of ``cpu`` and ``memory`` it controls; ``("",)`` for version 2.
        root: the group that the mount shows at its top.
        folder: where it is mounted.
    """

    controllers: tuple[str, ...]
    root: str
    folder: str


class CgroupLimits(msgspec.Struct, frozen=True):
    """What the groups allow; None where they set no limit.

    Attributes:
        cpu_cores: CPU time per time, such as 1.5 cores.
        memory_bytes: most memory that the group may hold.
        memory_headroom_bytes: what may still be taken before the tightest limit; page cache that can be dropped counts
            as free.
    """

    cpu_cores: float | None = None
    memory_bytes: int | None = None
    memory_headroom_bytes: int | None = None


def parse_membership(proc_self_cgroup: str) -> dict[str, str]:
    """Read ``/proc/self/cgroup``: controller → path of our group; the version 2 group has the name ``""``."""
    paths: dict[str, str] = {}
    for line in proc_self_cgroup.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def parse_mounts(mountinfo: str) -> tuple[CgroupMount, ...]:
    """Read ``/proc/self/mountinfo`` and keep the control group hierarchies.

    A line is ``id parent major:minor ROOT FOLDER options [fields…] - TYPE source SUPER_OPTIONS``; a version 1 mount
    names its controllers among the super options.
    """
    mounts = []
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        if not separator:
            continue
        kind, _, super_options = [*after.split(" ", 2), "", ""][:3]
        root, folder = (_unescape(field) for field in before.split(" ")[3:5])
        if kind == "cgroup2":
            mounts.append(CgroupMount((V2,), root, folder))
        elif kind == "cgroup":
            controllers = tuple(option for option in super_options.split(",") if option in _LIMITING)
            mounts.append(CgroupMount(controllers, root, folder))
    return tuple(mounts)


def _unescape(field: str) -> str:
    """Undo mountinfo's octal escapes of blanks and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def group_folders(mount: CgroupMount, path: str) -> Iterator[str]:
    """Yield the folders of our group and of each group above it, innermost first, as far as the mount shows them."""
    inside = posixpath.relpath(path, mount.root)
    if inside.startswith(".."):
        inside = "."  # a cgroup namespace or a bind mount hides our own group: its top is the best that can be read
    folder = posixpath.normpath(posixpath.join(mount.folder, inside))
    while True:
        yield folder
        if folder == mount.folder:
            return
        folder = posixpath.dirname(folder)


def parse_cpu_max(text: str) -> float | None:
    """Read version 2's ``cpu.max`` (``"150000 100000"``, ``"max 100000"``) as cores."""
    quota, _, period = text.strip().partition(" ")
    return None if quota == "max" else int(quota) / int(period or 100_000)


def parse_cfs(quota_us: str, period_us: str) -> float | None:
    """Read version 1's ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us`` as cores; a quota of -1 is none."""
    quota, period = int(quota_us), int(period_us)
    return quota / period if quota > 0 and period > 0 else None


def parse_byte_limit(text: str) -> int | None:
    """Read ``memory.max`` or ``memory.limit_in_bytes``; None where it says that there is no limit."""
    text = text.strip()
    if text == "max" or int(text) >= _UNLIMITED_BYTES:
        return None
    return int(text)


def parse_inactive_file(memory_stat: str) -> int:
    """Bytes of page cache that the kernel drops before it refuses memory, from ``memory.stat``.

    Version 1 counts the groups below as well under ``total_inactive_file``; version 2 always does, under
    ``inactive_file``.
    """
    rows = dict(line.split(" ", 1) for line in memory_stat.splitlines() if " " in line)
    return int(rows.get("total_inactive_file", rows.get("inactive_file", "0")))


def read_limits(read: Read) -> CgroupLimits:
    """Find the tightest limits that hold for this process.

    Args:
        read: gives the text of ``/proc`` and cgroup files.
    """
    membership = parse_membership(read("/proc/self/cgroup") or "")
    cores: list[float] = []
    memory: list[tuple[int, int]] = []  # (limit, headroom)
    for mount in parse_mounts(read("/proc/self/mountinfo") or ""):
        for controller in mount.controllers:
            if controller not in membership:
                continue
            for folder in group_folders(mount, membership[controller]):
                cores += filter(None, [_cpu_limit(read, folder)])
                memory += filter(None, [_memory_limit(read, folder)])
    return CgroupLimits(
        cpu_cores=min(cores, default=None),
        memory_bytes=min((limit for limit, _ in memory), default=None),
        memory_headroom_bytes=min((headroom for _, headroom in memory), default=None),
    )


def _cpu_limit(read: Read, folder: str) -> float | None:
    if (text := read(f"{folder}/cpu.max")) is not None:
        return parse_cpu_max(text)
    quota, period = read(f"{folder}/cpu.cfs_quota_us"), read(f"{folder}/cpu.cfs_period_us")
    return parse_cfs(quota, period) if quota is not None and period is not None else None


def _memory_limit(read: Read, folder: str) -> tuple[int, int] | None:
    for limit_file, used_file in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        text = read(f"{folder}/{limit_file}")
        if text is None or (limit := parse_byte_limit(text)) is None:
            continue
        used = int(read(f"{folder}/{used_file}") or 0)
        droppable = parse_inactive_file(read(f"{folder}/memory.stat") or "")
        return limit, max(0, limit - max(0, used - droppable))
    return None
