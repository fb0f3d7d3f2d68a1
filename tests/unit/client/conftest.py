"""Fixtures of the client's tests; ``driving`` lies beside this file."""

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from driving import Drive  # noqa: E402 - found only once the path is set

from setpoint.testing import SimulatedClock  # noqa: E402


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(1)


@pytest.fixture
def drive(clock: SimulatedClock) -> Drive:
    return Drive(clock)
