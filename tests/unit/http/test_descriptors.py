"""Connections leave descriptors for the rest of the node, whatever the shell's limit is."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from setpoint.node.http.descriptors import make_room
soft, hard, connections = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(make_room(connections), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "room", "soft_then"),
    [
        (1024, 8192, 4096, 4096, 4352),
        (1024, 2000, 4096, 1744, 2000),
        (1024, 1024, 4096, 768, 1024),
        (8192, 8192, 4096, 4096, 8192),
        (200, 200, 4096, 1, 200),
        (1024, 8192, 100, 100, 1024),
    ],
)
def test_the_limit_is_raised_as_far_as_needed_and_allowed(
    soft: int, hard: int, connections: int, room: int, soft_then: int
) -> None:
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(soft), str(hard), str(connections)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == [str(room), str(soft_then), str(hard)]
