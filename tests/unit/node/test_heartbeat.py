"""The heartbeat sees a loop that stands still, on a real loop with the kernel's timer."""

import asyncio
import time

import uvloop

from setpoint.core import SystemClock
from setpoint.node.heartbeat import Heartbeat

STALL_S = 0.2


async def stalled() -> Heartbeat:
    heartbeat = Heartbeat(SystemClock.now_ns)
    time.sleep(STALL_S)
    while heartbeat.lag.last_minute() is None:
        await asyncio.sleep(0.001)
    heartbeat.close()
    return heartbeat


def test_a_loop_that_stood_still_was_late_for_every_beat_meanwhile() -> None:
    for loop_factory in (uvloop.new_event_loop, asyncio.new_event_loop):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            found = runner.run(stalled()).lag.last_minute()
        assert found is not None
        assert found.count >= 7  # one was due every 25 ms
        assert found.max_ms >= 174  # the first of them
