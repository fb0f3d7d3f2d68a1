"""The C library's allocator, set for a process that reads and writes bodies of a megabyte all day.

By default glibc gives the top of its heap back to the system above 128 KiB and maps larger blocks afresh, so a 600 kB
body can cost 280 page faults each time it is read and 3.5 times the CPU time (``benchmarks/http_servers``).
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD = -1  # glibc's malloc.h
_M_MMAP_THRESHOLD = -3
_KEEP_BYTES = 64 << 20
_MAP_ABOVE_BYTES = 32 << 20


def keep_freed_memory() -> bool:
    """Keep up to 64 MiB of freed memory for the next bodies; False where the C library is not glibc."""
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES) and mallopt(_M_MMAP_THRESHOLD, _MAP_ABOVE_BYTES))
