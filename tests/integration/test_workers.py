"""Workers die, hang and fail; requests are answered all the same, once, and by the stated rule."""

import os
import signal

import pytest
from harness import alive, until

SLOW = """
import os, time
import setpoint as sp

class Slow(sp.Model):
    @sp.endpoint(batch=16)
    def double(self, xs: list[int]) -> list[int]:
        time.sleep(0.5)
        return [2 * x for x in xs]

    @sp.endpoint
    def pid(self) -> int:
        return os.getpid()
"""


def test_requests_held_by_a_killed_worker_are_answered_after_one_retry(pack, serve):
    node = serve(pack(SLOW))
    (worker,) = node.workers()
    import threading

    killer = threading.Timer(0.3, os.kill, (worker, signal.SIGKILL))
    killer.start()
    answers = node.call_all("model/double", [{"xs": [i, i + 100]} for i in range(8)])
    killer.join()
    assert [answer.json for answer in answers] == [[2 * i, 2 * i + 200] for i in range(8)]
