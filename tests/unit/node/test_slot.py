"""A slot follows its worker's process."""

from typing import Any, cast

from setpoint.node.slot import Slot, State
from setpoint.worker import Request

HANDLE: Any = object()


def test_a_slot_goes_from_down_through_starting_to_idle():
    slot = Slot(0)
    assert slot.state is State.DOWN
    slot.begin(HANDLE, 99)
    assert (slot.state, slot.limit_ns) == (State.STARTING, 99)
    assert slot.release() == ()
    assert (slot.state, slot.limit_ns) == (State.IDLE, 0)


def test_releasing_gives_back_what_was_held_once():
    slot = Slot(0)
    slot.begin(HANDLE, 99)
    slot.release()
    held = [cast(Request, object())]
    slot.requests, slot.state, slot.limit_ns = held, State.BUSY, 7
    assert slot.release() is held
    assert slot.release() == ()


def test_a_lost_process_leaves_nothing_behind_for_the_next():
    slot = Slot(0)
    slot.begin(HANDLE, 99)
    slot.batch, slot.requests, slot.state = 41, [cast(Request, object())], State.BUSY
    slot.streamed.append(b"half an ev")
    slot.paused = True
    slot.end_reason = "run_timeout"
    assert len(slot.vacate(100)) == 1
    assert (slot.handle, slot.state, slot.limit_ns, slot.streamed, slot.paused) == (None, State.DOWN, 0, [], False)
    slot.begin(HANDLE, 5)
    assert (slot.batch, slot.requests, slot.end_reason, slot.served) == (0, (), "", False)


def test_a_process_that_stood_ready_for_a_while_was_a_good_start_though_nobody_asked_it():
    slot = Slot(0)
    slot.failed_starts = 2
    slot.begin(HANDLE, 99)
    slot.ready_ns = 5
    slot.vacate(2_000_000_005)
    assert slot.failed_starts == 0


def test_failed_starts_count_processes_in_a_row_that_served_nothing():
    slot = Slot(0)
    for failed in (1, 2, 3):
        slot.begin(HANDLE, 99)
        slot.vacate(100)
        assert slot.failed_starts == failed
    slot.begin(HANDLE, 99)
    slot.served = True
    slot.vacate(100)
    assert slot.failed_starts == 0
