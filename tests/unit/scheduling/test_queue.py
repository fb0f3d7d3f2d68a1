"""The queue: bounded, work-conserving, nothing lost, nothing twice."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from setpoint.scheduling import BatchQueue


class Item:
    def __init__(self, rows: int = 1, lane: Hashable = ("a",), deadline_ns: int = 10**9, alone: bool = False) -> None:
        self.rows = rows
        self.lane = lane
        self.deadline_ns = deadline_ns
        self.alone = alone
        self.sequence = 0
        self.waiting = False


def up_to(rows: int) -> Any:
    return lambda lane: rows


def test_a_free_worker_takes_everything_of_the_oldest_lane_that_fits() -> None:
    queue: BatchQueue[Item] = BatchQueue(limit_rows=100)
    first, second, third = Item(), Item(rows=3), Item(rows=2)
    for item in (first, second, third):
        assert queue.push(item)
    assert queue.take(up_to(4)) == [first, second]
    assert queue.take(up_to(4)) == [third]
    assert queue.take(up_to(4)) == []


def test_lanes_never_mix_and_the_oldest_request_decides_whose_turn_it_is() -> None:
    queue: BatchQueue[Item] = BatchQueue(limit_rows=100)
    short, long, short_again = Item(lane=("m", 8)), Item(lane=("m", 64)), Item(lane=("m", 8))
    for item in (short, long, short_again):
        queue.push(item)
    assert queue.take(up_to(64)) == [short, short_again]
    assert queue.take(up_to(64)) == [long]


def test_a_request_larger_than_the_batch_runs_by_itself() -> None:
    queue: BatchQueue[Item] = BatchQueue(limit_rows=10)
    big, small = Item(rows=500), Item()
    assert queue.push(big)
    assert not queue.push(small)
    assert queue.take(up_to(64)) == [big]
    assert queue.push(small)


def test_a_suspect_request_shares_no_batch_and_holds_up_nobody() -> None:
    queue: BatchQueue[Item] = BatchQueue(limit_rows=100)
    waiting = Item()
    queue.push(waiting)
    suspects = [Item(alone=True), Item(alone=True)]
    for suspect in reversed(suspects):
        queue.push_front(suspect)
    assert queue.take(up_to(64)) == [suspects[0]]
    assert queue.take(up_to(64)) == [suspects[1]]
    assert queue.take(up_to(64)) == [waiting]


def test_a_full_queue_refuses_and_changes_nothing() -> None:
    queue: BatchQueue[Item] = BatchQueue(limit_rows=3)
    assert queue.push(Item(rows=2))
    refused = Item(rows=2)
    assert not queue.push(refused)
    assert (queue.rows, len(queue), refused.waiting) == (2, 1, False)


def test_what_is_late_leaves_and_the_rest_stays() -> None:
    queue: BatchQueue[Item] = BatchQueue(limit_rows=100)
    late, timely = Item(deadline_ns=5), Item(deadline_ns=50)
    queue.push(late)
    queue.push(timely)
    assert queue.oldest_deadline_ns() == 5
    assert queue.expire(now_ns=5) == [late]
    assert queue.take(up_to(64)) == [timely]


class QueueMachine(RuleBasedStateMachine):
    """Random use beside a plain list: the same requests wait in both, whatever happens."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: BatchQueue[Item] = BatchQueue(limit_rows=40)
        self.model: list[Item] = []
        self.held: list[Item] = []
        self.ended: set[int] = set()

    @rule(
        rows=st.integers(1, 50),
        lane=st.sampled_from([("a",), ("b",), ("c", 3), None]),
        deadline_ns=st.integers(0, 100),
    )
    def push(self, rows: int, lane: Hashable, deadline_ns: int) -> None:
        item = Item(rows, lane, deadline_ns)
        fits = not self.model or sum(waiting.rows for waiting in self.model) + rows <= 40
        assert self.queue.push(item) is fits
        if fits:
            self.model.append(item)

    @rule(batch_rows=st.integers(1, 30))
    def take(self, batch_rows: int) -> None:
        batch = self.queue.take(up_to(batch_rows))
        assert bool(batch) is bool(self.model)
        if not batch:
            return
        oldest = min(self.model, key=lambda item: item.sequence)
        assert batch[0] is oldest
        assert len({item.lane for item in batch}) == 1
        assert len(batch) == 1 or (sum(item.rows for item in batch) <= batch_rows and batch[0].lane is not None)
        assert [item.sequence for item in batch] == sorted(item.sequence for item in batch)
        for item in batch:
            self.model.remove(item)
            self.held.append(item)

    @precondition(lambda self: self.held)
    @rule(alone=st.booleans())
    def worker_lost(self, alone: bool) -> None:
        for item in reversed(self.held):
            item.alone = alone
            self.queue.push_front(item)
            self.model.append(item)
        self.held.clear()

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def client_leaves(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.model))
        assert self.queue.remove(item)
        assert not self.queue.remove(item)
        self.model.remove(item)

    @rule(now_ns=st.integers(0, 100))
    def time_passes(self, now_ns: int) -> None:
        late = self.queue.expire(now_ns)
        assert {id(item) for item in late} == {id(item) for item in self.model if item.deadline_ns <= now_ns}
        self.model = [item for item in self.model if item.deadline_ns > now_ns]

    @rule()
    def shut_down(self) -> None:
        assert {id(item) for item in self.queue.drain()} == {id(item) for item in self.model}
        self.model.clear()

    @invariant()
    def counts_are_those_of_what_waits(self) -> None:
        assert self.queue.rows == sum(item.rows for item in self.model)
        assert len(self.queue) == len(self.model)
        assert {id(item) for item in self.queue} == {id(item) for item in self.model}


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
