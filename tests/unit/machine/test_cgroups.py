"""Limits are found in every hierarchy in use: version 1, version 2, hybrid, nested, and seen from a container."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.machine.cgroups import (
    CgroupLimits,
    CgroupMount,
    group_folders,
    parse_byte_limit,
    parse_cfs,
    parse_cpu_max,
    parse_membership,
    parse_mounts,
    read_limits,
)

GIB = 1 << 30

# A virtual machine with version 1 controllers and an empty version 2 hierarchy beside them.
HYBRID_CGROUP = """\
9:name=systemd:/
8:pids:/
7:blkio:/
6:freezer:/
5:devices:/
4:memory:/process_api/6fdaddf2adf47eeb24041ea7e34cbfc9
3:cpuset:/
2:cpuacct:/
1:cpu:/
0::/
"""
HYBRID_MOUNTINFO = """\
23 1 254:0 / / rw,relatime - ext4 /dev/root rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
NO_LIMIT_V1 = "9223372036854771712\n"

# Docker on a version 1 host, cgroup namespace of the host: the mount shows the container's own group at its top.
DOCKER_V1_CGROUP = """\
12:cpu,cpuacct:/docker/4f1c2a
11:memory:/docker/4f1c2a
1:name=systemd:/docker/4f1c2a
"""
DOCKER_V1_MOUNTINFO = (
    "1120 1119 0:30 /docker/4f1c2a /sys/fs/cgroup/cpu,cpuacct ro,nosuid,nodev,noexec,relatime master:14"
    " - cgroup cgroup rw,cpu,cpuacct\n"
    "1121 1119 0:32 /docker/4f1c2a /sys/fs/cgroup/memory ro,nosuid,nodev,noexec,relatime master:16"
    " - cgroup cgroup rw,memory\n"
)

# A desktop with systemd: version 2 only, our group five levels down.
SYSTEMD_V2_CGROUP = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/setpoint.service\n"
SYSTEMD_V2_MOUNTINFO = (
    "29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
)
V2_STAT = "anon 209715200\nfile 734003200\ninactive_anon 0\ninactive_file 629145600\nactive_file 104857600\n"


def limits_of(cgroup: str, mountinfo: str, files: dict[str, str]) -> CgroupLimits:
    return read_limits({"/proc/self/cgroup": cgroup, "/proc/self/mountinfo": mountinfo, **files}.get)


def test_hybrid_hierarchy_without_limits_sets_none() -> None:
    assert limits_of(
        HYBRID_CGROUP,
        HYBRID_MOUNTINFO,
        {
            "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes": NO_LIMIT_V1,
            "/sys/fs/cgroup/memory/process_api/6fdaddf2adf47eeb24041ea7e34cbfc9/memory.limit_in_bytes": NO_LIMIT_V1,
        },
    ) == CgroupLimits(None, None, None)


def test_hybrid_hierarchy_takes_the_limit_of_a_group_above_ours() -> None:
    found = limits_of(
        HYBRID_CGROUP,
        HYBRID_MOUNTINFO,
        {
            "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000\n",
            "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "/sys/fs/cgroup/memory/process_api/memory.limit_in_bytes": f"{2 * GIB}\n",
            "/sys/fs/cgroup/memory/process_api/memory.usage_in_bytes": f"{GIB}\n",
            "/sys/fs/cgroup/memory/process_api/6fdaddf2adf47eeb24041ea7e34cbfc9/memory.limit_in_bytes": NO_LIMIT_V1,
        },
    )
    assert found == CgroupLimits(cpu_cores=1.5, memory_bytes=2 * GIB, memory_headroom_bytes=GIB)


def test_container_on_version_1_reads_its_own_group_at_the_top_of_the_mount() -> None:
    found = limits_of(
        DOCKER_V1_CGROUP,
        DOCKER_V1_MOUNTINFO,
        {
            "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000\n",
            "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes": f"{GIB}\n",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB - 1000}\n",
            "/sys/fs/cgroup/memory/memory.stat": "inactive_file 10\ntotal_inactive_file 400\n",
        },
    )
    assert found == CgroupLimits(cpu_cores=4.0, memory_bytes=GIB, memory_headroom_bytes=1400)


def test_version_2_takes_the_tightest_limit_between_our_group_and_the_root() -> None:
    top = "/sys/fs/cgroup/user.slice/user-1000.slice"
    found = limits_of(
        SYSTEMD_V2_CGROUP,
        SYSTEMD_V2_MOUNTINFO,
        {
            f"{top}/cpu.max": "200000 100000\n",
            f"{top}/memory.max": "8589934592\n",
            f"{top}/memory.current": "943718400\n",
            f"{top}/memory.stat": V2_STAT,
            f"{top}/user@1000.service/app.slice/cpu.max": "max 100000\n",
            f"{top}/user@1000.service/app.slice/setpoint.service/cpu.max": "300000 100000\n",
            f"{top}/user@1000.service/app.slice/setpoint.service/memory.max": "max\n",
        },
    )
    assert found == CgroupLimits(2.0, 8 * GIB, 8 * GIB - (943718400 - 629145600))


def test_version_2_headroom_is_the_smallest_even_when_its_limit_is_not() -> None:
    parent, ours = "/sys/fs/cgroup/a", "/sys/fs/cgroup/a/b"
    found = limits_of(
        "0::/a/b\n",
        SYSTEMD_V2_MOUNTINFO,
        {
            f"{parent}/memory.max": f"{4 * GIB}",
            f"{parent}/memory.current": f"{4 * GIB - 7}",
            f"{ours}/memory.max": f"{2 * GIB}",
            f"{ours}/memory.current": f"{GIB}",
        },
    )
    assert found == CgroupLimits(None, 2 * GIB, 7)


def test_cgroup_namespace_that_hides_our_path_falls_back_to_the_top_of_the_mount() -> None:
    # ``docker exec`` of a process that was moved: the path points above the namespace's root.
    found = limits_of("0::/../sibling\n", SYSTEMD_V2_MOUNTINFO, {"/sys/fs/cgroup/cpu.max": "50000 100000\n"})
    assert found.cpu_cores == 0.5


def test_a_system_without_control_groups_sets_no_limit() -> None:
    assert read_limits({}.get) == CgroupLimits(None, None, None)


def test_an_exhausted_group_has_no_headroom_rather_than_a_negative_one() -> None:
    found = limits_of(
        "0::/\n", SYSTEMD_V2_MOUNTINFO, {"/sys/fs/cgroup/memory.max": "1000", "/sys/fs/cgroup/memory.current": "5000"}
    )
    assert found.memory_headroom_bytes == 0


def test_mountinfo_keeps_control_groups_only_and_undoes_escapes() -> None:
    assert parse_mounts(HYBRID_MOUNTINFO)[0] == CgroupMount(("cpu",), "/", "/sys/fs/cgroup/cpu")
    assert parse_mounts(r"1 2 0:1 / /mnt/with\040blank rw - cgroup2 none rw") == (
        CgroupMount(("",), "/", "/mnt/with blank"),
    )
    assert [mount.controllers for mount in parse_mounts(DOCKER_V1_MOUNTINFO)] == [
        ("cpu",),
        ("memory",),
    ]


def test_membership_maps_joined_controllers_and_keeps_colons_in_paths() -> None:
    assert parse_membership("3:cpu,cpuacct:/a:b\n0::/\n") == {"cpu": "/a:b", "cpuacct": "/a:b", "": "/"}


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000", None), ("150000 100000\n", 1.5), ("50000", 0.5), ("10000 20000", 0.5)]
)
def test_cpu_max(text: str, cores: float | None) -> None:
    assert parse_cpu_max(text) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1\n", None), ("0", None), ("250000\n", 2.5)])
def test_cfs_quota(quota: str, cores: float | None) -> None:
    assert parse_cfs(quota, "100000\n") == cores


@pytest.mark.parametrize(("text", "limit"), [("max\n", None), (NO_LIMIT_V1, None), ("1048576\n", 1 << 20)])
def test_byte_limit(text: str, limit: int | None) -> None:
    assert parse_byte_limit(text) == limit


names = st.text(st.characters(codec="ascii", exclude_characters="/\n\r .", exclude_categories=["Cc"]), min_size=1)


@given(st.lists(names, max_size=6))
def test_folders_go_from_our_group_to_the_mount_one_level_at_a_time(levels: list[str]) -> None:
    folders: Iterator[str] = group_folders(CgroupMount(("",), "/", "/sys/fs/cgroup"), "/" + "/".join(levels))
    expected = ["/".join(["/sys/fs/cgroup", *levels[:depth]]) for depth in range(len(levels), -1, -1)]
    assert list(folders) == expected
