"""File descriptors: a flood of connections must not take those that replacing a worker needs."""

from __future__ import annotations

import resource

RESERVED = 256
"""For workers (six each), their packages and files; the listener; whatever reads ``/proc``."""


def make_room(connections: int) -> int:
    """Raise this process's limit of open files as far as so many connections need, and it may.

    Shells start processes with a limit of 1024 for the sake of old programs, and allow them a hundred times that.

    Returns:
        how many connections there is room for; at least 1.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + RESERVED
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(1, min(connections, allowed - RESERVED))
