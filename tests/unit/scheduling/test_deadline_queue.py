"""The deadline queue: earliest first, lanes apart, nothing lost, and what is cancelled really leaves."""

from __future__ import annotations

import gc
import weakref

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from scheduled_items import Item

from setpoint.scheduling import DeadlineQueue


def pushed(*items: Item) -> DeadlineQueue[Item]:
    queue: DeadlineQueue[Item] = DeadlineQueue()
    for item in items:
        queue.push(item)
    return queue


def taken(queue: DeadlineQueue[Item], most_rows: int) -> list[Item]:
    lane = queue.first_lane()
    return [] if lane is None else queue.take(lane, *lane.count_within(most_rows))


def test_the_earliest_deadline_leaves_first_and_equal_ones_in_order_of_arrival() -> None:
    late, early, same = Item(deadline_ns=30), Item(deadline_ns=10), Item(deadline_ns=10)
    assert taken(pushed(late, early, same), 8) == [early, same, late]


def test_a_lower_priority_waits_for_every_deadline_of_a_higher_one() -> None:
    patient, urgent = Item(deadline_ns=10**15), Item(deadline_ns=5, priority=1)
    assert taken(pushed(urgent, patient), 1) == [patient]


def test_lanes_never_mix_and_the_most_urgent_request_decides_whose_turn_it_is() -> None:
    first, other, second = Item(deadline_ns=20), Item(deadline_ns=10, lane="other"), Item(deadline_ns=15)
    queue = pushed(first, other, second)
    assert [taken(queue, 8), taken(queue, 8)] == [[other], [second, first]]


def test_rows_fill_a_batch_and_a_request_larger_than_any_batch_is_one_by_itself() -> None:
    large, small, last = Item(rows=9, deadline_ns=1), Item(rows=3, deadline_ns=2), Item(rows=2, deadline_ns=3)
    queue = pushed(large, small, last)
    assert [taken(queue, 4), taken(queue, 4), taken(queue, 4)] == [[large], [small], [last]]


def test_rows_before_a_new_request_are_those_of_earlier_or_equal_deadlines() -> None:
    queue = pushed(Item(rows=2, deadline_ns=10), Item(rows=3, deadline_ns=20), Item(rows=4, deadline_ns=30))
    lane = queue.first_lane()
    assert lane is not None
    assert [lane.rows_before(deadline_ns) for deadline_ns in (5, 10, 25, 30, 99)] == [0, 2, 5, 9, 9]


def test_a_cancelled_request_is_not_kept_alive_by_the_queue() -> None:
    queue = pushed(*(Item(deadline_ns=deadline_ns) for deadline_ns in range(1, 9)))
    item = Item(deadline_ns=4)
    queue.push(item)
    kept = weakref.ref(item)
    assert queue.remove(item)
    assert not queue.remove(item)
    del item
    gc.collect()
    assert kept() is None


class Machine(RuleBasedStateMachine):
    """Against a plain list of what should wait."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: DeadlineQueue[Item] = DeadlineQueue()
        self.waiting: list[Item] = []

    @rule(
        rows=st.integers(1, 5),
        lane=st.sampled_from(["a", "b", None]),
        deadline_ns=st.integers(1, 50),
        priority=st.integers(0, 1),
        alone=st.booleans(),
        lead_ns=st.sampled_from([0, 0, 7]),
    )
    def push(self, rows: int, lane: str | None, deadline_ns: int, priority: int, alone: bool, lead_ns: int) -> None:
        item = Item(rows, lane, deadline_ns, priority, alone=alone)
        self.queue.push(item, lead_ns)
        self.waiting.append(item)

    @precondition(lambda self: self.waiting)
    @rule(most_rows=st.integers(1, 12))
    def take(self, most_rows: int) -> None:
        batch = taken(self.queue, most_rows)
        first = min(self.waiting, key=lambda item: item.order_ns)
        assert batch[0].order_ns == first.order_ns
        assert [item.order_ns for item in batch] == sorted(item.order_ns for item in batch)
        assert len({(item.lane, item.alone) if item.lane and not item.alone else "alone" for item in batch}) == 1
        assert len(batch) == 1 or sum(item.rows for item in batch) <= most_rows
        for item in batch:
            assert not item.waiting
            self.waiting.remove(item)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.waiting))
        assert self.queue.remove(item)
        assert not self.queue.remove(item)
        self.waiting.remove(item)

    @rule()
    def drain(self) -> None:
        assert {id(item) for item in self.queue.drain()} == {id(item) for item in self.waiting}
        assert not any(item.waiting for item in self.waiting)
        self.waiting.clear()

    @invariant()
    def counts_add_up(self) -> None:
        assert self.queue.requests == len(self.queue) == len(self.waiting)
        assert self.queue.rows == sum(item.rows for item in self.waiting)
        assert {id(item) for item in self.queue} == {id(item) for item in self.waiting}
        assert all(item.waiting for item in self.waiting)
        assert all(lane.items and lane.rows == sum(i.rows for i in lane.items) for lane in self.queue.lanes.values())


TestDeadlineQueueHolds = Machine.TestCase
TestDeadlineQueueHolds.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_in_turn_are_those_at_the_front_that_were_not_moved_back_whatever_their_priority() -> None:
    queue: DeadlineQueue[Item] = DeadlineQueue()
    queue.push(Item(rows=2, deadline_ns=10))
    queue.push(Item(rows=3, deadline_ns=20))
    queue.push(Item(rows=5, deadline_ns=15), lead_ns=100)
    queue.push(Item(rows=7, deadline_ns=5, priority=1))
    lane = queue.first_lane()
    assert lane is not None
    assert lane.rows_in_turn(100) == 5
    assert lane.rows_in_turn(1) == 2
    queue.take(lane, 3, 10)
    assert lane.rows_in_turn(100) == 7
