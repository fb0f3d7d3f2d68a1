"""A parked model answers what it knows without being woken, and counts who waits for its wake once."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted import BUNDLE, Call, ScriptedWorker, SteppedLoop

from setpoint.core import Limits, NotReady, RefusedError
from setpoint.node.berth import Berth
from setpoint.node.cache import CacheTerms
from setpoint.node.config import ModelConfig
from setpoint.testing import SimulatedClock
from setpoint.worker import WorkerEvents, WorkerSpec


class Dock:
    """A berth, its worker, and a harbour that notes who asks it and wakes nobody by itself."""

    def __init__(self) -> None:
        self.clock = SimulatedClock(1)
        self.loop = SteppedLoop(self.clock)
        self.asked = 0
        self.refusal: RefusedError | None = None
        self.launched: list[ScriptedWorker] = []
        config = ModelConfig(BUNDLE, Path("nowhere"), cache=CacheTerms(64 << 10))
        self.berth = Berth(config, Limits(), self.clock, lambda bug: pytest.fail(repr(bug)), self, self._launch)  # type: ignore[arg-type]

        self.loop.run_until_complete(self._begin())

    async def _begin(self) -> None:
        self.berth.begin()

    def _launch(self, spec: WorkerSpec, events: WorkerEvents, loop: SteppedLoop) -> ScriptedWorker:
        self.launched.append(ScriptedWorker(spec, events, loop))
        return self.launched[-1]

    def cold(self, berth: Berth, patience_ns: int) -> RefusedError | None:
        self.asked += 1
        return self.refusal

    def forgone(self, berth: Berth) -> None:
        pass

    def turn(self) -> None:
        for _ in range(4):
            self.loop.run_until_complete(asyncio.sleep(0))

    def wake(self) -> ScriptedWorker:
        waking = self.loop.create_task(self.berth.wake())
        self.turn()
        self.launched[-1].ready()
        self.turn()
        waking.result()
        return self.launched[-1]

    def rest(self) -> None:
        resting = self.loop.create_task(self.berth.rest())
        self.turn()
        self.launched[-1].die("closed")
        self.clock.advance_ns(10**9)
        self.turn()
        resting.result()

    def check_books(self) -> None:
        metrics = self.berth.metrics
        assert metrics.accepted == sum(metrics.outcomes.values()) + self.berth.in_flight
        refused_at_door = sum(metrics.counts.refused.values()) - sum(metrics.errors.values())
        assert metrics.counts.offered == metrics.accepted + refused_at_door


@pytest.fixture
def dock() -> Iterator[Dock]:
    made = Dock()
    yield made
    made.check_books()
    made.loop.close()


def test_a_known_answer_does_not_wake_a_parked_model(dock: Dock) -> None:
    worker = dock.wake()
    first = Call(body=b"1")
    dock.berth.submit(first)
    dock.turn()
    worker.answer()
    dock.rest()
    again, other = Call(body=b"1"), Call(body=b"2")
    dock.berth.submit(again)
    assert (again.ends.said, dock.asked) == ([b"1"], 0)
    dock.berth.submit(other)
    assert (other.ends.said, dock.asked) == ([], 1)
    dock.wake()
    dock.turn()
    dock.launched[-1].answer()
    assert other.ends.said == [b"2"]


def test_who_waits_for_the_wake_is_offered_and_accepted_once(dock: Dock) -> None:
    requests = [Call(body=b"%d" % (number % 2)) for number in range(4)]
    for request in requests:
        dock.berth.submit(request)
        dock.check_books()
    dock.wake()
    dock.turn()
    dock.launched[-1].answer()
    assert [request.ends.said for request in requests] == [[b"%d" % (number % 2)] for number in range(4)]
    assert dock.asked == 2, "those that are alike wait as one"
    counts = dock.berth.metrics.counts
    assert (counts.offered, counts.in_time) == (4, 4)


def test_who_cannot_wait_for_the_wake_is_counted_as_refused(dock: Dock) -> None:
    dock.refusal = NotReady("not soon enough")
    with pytest.raises(NotReady):
        dock.berth.submit(Call())
    counts = dock.berth.metrics.counts
    assert (counts.offered, counts.refused) == (1, {"not_ready": 1})
