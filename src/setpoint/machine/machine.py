"""This computer as Setpoint may use it: what it has, and what affinity and control groups leave of it."""

from __future__ import annotations

import functools
import math
import os
import platform
from collections.abc import Iterable
from importlib import metadata

import msgspec

from setpoint.machine import memory
from setpoint.machine.cgroups import CgroupLimits, read_limits
from setpoint.machine.cpu import Cpu, read_cpu
from setpoint.machine.files import read_text

FINGERPRINTED = ("onnxruntime", "openvino", "numpy")
"""Libraries whose version changes how fast the same variant runs."""


class Machine(msgspec.Struct, frozen=True):
    """What can be used here, now.

    Attributes:
        cpu: model and features.
        cores: threads that can run at the same time without being throttled; at least 1.
        cores_online: logical processors of the machine, limits aside.
        cpu_quota_cores: what the control groups allow, such as 1.5; None when they set no limit.
        memory_bytes: most that may be held: the machine's, or the control groups' limit where it is lower.
        memory_available_bytes: what may be taken now.
    """

    cpu: Cpu
    cores: int
    cores_online: int
    cpu_quota_cores: float | None
    memory_bytes: int
    memory_available_bytes: int


def usable_cores(affinity_cores: int, quota_cores: float | None) -> int:
    """How many threads may run at once, given how many processors we are bound to and the groups' CPU time.

    A quota is rounded *down*: two busy threads under a quota of 1.5 are stopped for a quarter of every period, which
    shows in p99 as stalls of tens of milliseconds. One thread that leaves half a core idle does not stall.
    """
    return max(1, affinity_cores if quota_cores is None else min(affinity_cores, math.floor(quota_cores)))


def combine(
    cpu: Cpu, *, online: int, affinity: int, limits: CgroupLimits, total_bytes: int, available_bytes: int
) -> Machine:
    """Lay the limits over what the machine has. Pure."""
    headroom = limits.memory_headroom_bytes
    return Machine(
        cpu=cpu,
        cores=usable_cores(affinity, limits.cpu_cores),
        cores_online=online,
        cpu_quota_cores=limits.cpu_cores,
        memory_bytes=total_bytes if limits.memory_bytes is None else min(total_bytes, limits.memory_bytes),
        memory_available_bytes=available_bytes if headroom is None else min(available_bytes, headroom),
    )


def read_machine() -> Machine:
    """Look at this machine now. Reads a few small files; no process is started on Linux."""
    online = os.cpu_count() or 1
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else online
    return combine(
        _cpu(),
        online=online,
        affinity=affinity,
        limits=read_limits(read_text),
        total_bytes=memory.total_bytes(),
        available_bytes=memory.available_bytes(),
    )


@functools.cache
def _cpu() -> Cpu:
    return read_cpu()


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Installed versions by distribution name, without importing anything; a library that is absent is left out."""
    found = {name: _version(name) for name in names}
    return {name: version for name, version in found.items() if version is not None}


@functools.cache
def _version(name: str) -> str | None:
    """Reading it takes a millisecond or two, and a node of many models asks for each of them."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def fingerprint_of(cpu: Cpu, versions: dict[str, str]) -> str:
    """One readable line that is equal exactly where a profile measured there is valid here. Pure."""
    libraries = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return f"{cpu.architecture}; {cpu.model}; {' '.join(cpu.features) or 'no features known'}; {libraries}"


def engine_fingerprint(engine: str) -> str:
    """The fingerprint of this machine and of what one engine consists of; what ``Profile.hardware`` holds.

    Of that engine only: installing another one does not make what was measured untrue.
    """
    return fingerprint(("numpy", engine))


def on_device(fingerprint: str, device: str) -> str:
    """A fingerprint with the device that something was measured on; on the CPU, the fingerprint itself. Pure."""
    return fingerprint if device == "cpu" else f"{fingerprint}; on {device}"


def fingerprint(libraries: Iterable[str] = FINGERPRINTED) -> str:
    """The fingerprint of this machine and of libraries, as far as they are installed: all engines', unless named.

    Core count and memory are not part of it: a profile says itself with how many threads it was measured.
    """
    versions = library_versions(libraries) | {"python": ".".join(platform.python_version_tuple()[:2])}
    return fingerprint_of(_cpu(), versions)
