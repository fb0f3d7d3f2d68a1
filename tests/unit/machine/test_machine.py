"""What may be used is what the machine has, less what affinity and control groups take away."""

import os

import pytest

from setpoint.machine import Cpu, Machine, fingerprint, library_versions, read_machine, usable_cores
from setpoint.machine.cgroups import CgroupLimits
from setpoint.machine.machine import combine, fingerprint_of

CPU = Cpu("x86_64", "Some CPU", ("avx2", "avx512_vnni"))
GIB = 1 << 30


def machine_with(limits: CgroupLimits, affinity: int = 8) -> Machine:
    return combine(CPU, online=16, affinity=affinity, limits=limits, total_bytes=64 * GIB, available_bytes=50 * GIB)


def test_without_limits_everything_we_are_bound_to_is_ours() -> None:
    machine = machine_with(CgroupLimits())
    assert (machine.cores, machine.cores_online, machine.cpu_quota_cores) == (8, 16, None)
    assert (machine.memory_bytes, machine.memory_available_bytes) == (64 * GIB, 50 * GIB)


def test_limits_of_the_groups_win_where_they_are_lower() -> None:
    machine = machine_with(CgroupLimits(cpu_cores=2.0, memory_bytes=4 * GIB, memory_headroom_bytes=GIB))
    assert (machine.cores, machine.memory_bytes, machine.memory_available_bytes) == (2, 4 * GIB, GIB)


def test_a_limit_beyond_the_machine_gives_no_more_than_the_machine_has() -> None:
    machine = machine_with(CgroupLimits(cpu_cores=99.0, memory_bytes=999 * GIB, memory_headroom_bytes=998 * GIB))
    assert (machine.cores, machine.memory_bytes, machine.memory_available_bytes) == (8, 64 * GIB, 50 * GIB)


@pytest.mark.parametrize(
    ("affinity", "quota", "cores"), [(8, None, 8), (8, 2.0, 2), (8, 2.9, 2), (8, 1.5, 1), (8, 0.25, 1), (1, 4.0, 1)]
)
def test_a_quota_is_rounded_down_and_never_below_one(affinity: int, quota: float | None, cores: int) -> None:
    assert usable_cores(affinity, quota) == cores


def test_fingerprint_differs_with_features_model_and_versions() -> None:
    first = fingerprint_of(CPU, {"onnxruntime": "1.23.0", "numpy": "2.1.0"})
    assert first == "x86_64; Some CPU; avx2 avx512_vnni; numpy 2.1.0, onnxruntime 1.23.0"
    others = {
        fingerprint_of(Cpu("x86_64", "Some CPU", ("avx2",)), {"onnxruntime": "1.23.0", "numpy": "2.1.0"}),
        fingerprint_of(Cpu("x86_64", "Another CPU", CPU.features), {"onnxruntime": "1.23.0", "numpy": "2.1.0"}),
        fingerprint_of(CPU, {"onnxruntime": "1.23.1", "numpy": "2.1.0"}),
    }
    assert len(others | {first}) == 4


def test_fingerprint_of_this_machine_is_stable_and_names_the_engine() -> None:
    assert fingerprint() == fingerprint()
    assert f"onnxruntime {library_versions(['onnxruntime'])['onnxruntime']}" in fingerprint()


def test_a_library_that_is_not_installed_is_left_out() -> None:
    assert library_versions(["msgspec", "no-such-library-here"]).keys() == {"msgspec"}


def test_this_machine_can_be_read() -> None:
    machine = read_machine()
    assert 1 <= machine.cores <= machine.cores_online
    assert 0 < machine.memory_available_bytes <= machine.memory_bytes


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no processor affinity")
def test_affinity_is_respected() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert read_machine().cores == 1
    finally:
        os.sched_setaffinity(0, before)
