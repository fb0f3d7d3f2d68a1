"""Memory figures are read in bytes, and a process that has gone holds none."""

import os
import subprocess
import sys

from setpoint.machine import pss_bytes, rss_bytes
from setpoint.machine.memory import parse_meminfo, parse_smaps_pss, parse_statm_resident

MEMINFO = """\
MemTotal:       24684084 kB
MemFree:        21981572 kB
MemAvailable:   23724152 kB
HugePages_Total:       0
Hugepagesize:       2048 kB
"""

SMAPS_ROLLUP = """\
5648c761a000-7ffe730c4000 ---p 00000000 00:00 0                          [rollup]
Rss:                1736 kB
Pss:                 249 kB
Pss_Dirty:           112 kB
Shared_Clean:       1588 kB
"""


def test_meminfo_is_in_bytes_and_leaves_out_page_counts() -> None:
    rows = parse_meminfo(MEMINFO)
    assert rows["MemAvailable"] == 23724152 * 1024
    assert "HugePages_Total" not in rows


def test_statm_counts_pages() -> None:
    assert parse_statm_resident("1234 434 397 5 0 60 0\n", 4096) == 434 * 4096


def test_smaps_pss() -> None:
    assert parse_smaps_pss(SMAPS_ROLLUP) == 249 * 1024


def test_our_own_memory_is_plausible_and_shared_pages_are_divided() -> None:
    resident = rss_bytes(os.getpid())
    assert 5 << 20 < resident < 4 << 30
    assert 0 < pss_bytes(os.getpid()) <= resident * 1.1


def test_a_process_that_has_gone_holds_nothing() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    child.wait()
    assert rss_bytes(child.pid) == 0
    assert pss_bytes(child.pid) == 0
