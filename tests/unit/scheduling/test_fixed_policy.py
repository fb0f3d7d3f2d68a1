"""Fixed terms mean what they mean in Triton."""

from __future__ import annotations

import pytest
from scheduled_items import Item

from setpoint.core import InvalidConfiguration
from setpoint.scheduling import FixedPolicy, FixedTerms, Reason, Refuse, Scheduler, Start, WakeAt

US = 1_000


def serving(terms: FixedTerms, workers: int = 1) -> Scheduler[Item]:
    scheduler: Scheduler[Item] = Scheduler(FixedPolicy(terms))
    for worker in range(workers):
        scheduler.worker_ready(worker)
    return scheduler


def arrive(scheduler: Scheduler[Item], now_us: int, *items: Item) -> list[Refuse[Item]]:
    return [refusal for item in items if (refusal := scheduler.arrived(item, now_us * US)) is not None]


def batches(scheduler: Scheduler[Item], now_us: int) -> list[list[Item]]:
    return [action.requests for action in scheduler.decide(now_us * US) if isinstance(action, Start)]


def test_without_a_delay_an_idle_worker_takes_what_is_there() -> None:
    scheduler = serving(FixedTerms(8))
    item = Item()
    arrive(scheduler, 0, item)
    assert batches(scheduler, 0) == [[item]]


def test_a_batch_waits_for_the_delay_of_its_oldest_request_and_asks_to_be_woken_then() -> None:
    scheduler = serving(FixedTerms(8, max_queue_delay_us=500))
    first, second = Item(), Item()
    arrive(scheduler, 0, first)
    assert scheduler.decide(0) == [WakeAt(500 * US)]
    arrive(scheduler, 400, second)
    assert batches(scheduler, 499) == []
    assert batches(scheduler, 500) == [[first, second]]


def test_a_full_batch_leaves_at_once_and_rows_count() -> None:
    scheduler = serving(FixedTerms(4, max_queue_delay_us=500), workers=2)
    items = [Item(rows=2), Item(rows=2), Item(rows=2)]
    arrive(scheduler, 0, *items)
    assert batches(scheduler, 0) == [items[:2]]


def test_a_batch_that_the_next_request_does_not_fit_leaves_at_once() -> None:
    scheduler = serving(FixedTerms(4, max_queue_delay_us=500), workers=2)
    small, large, other = Item(rows=1), Item(rows=4), Item(lane="other shape")
    arrive(scheduler, 0, small, large, other)
    assert batches(scheduler, 0) == [[small], [large]]


def test_requests_leave_in_order_of_arrival_whatever_their_deadlines_but_by_level_of_priority() -> None:
    scheduler = serving(FixedTerms(8))
    late, early, first_level = Item(deadline_ns=900, priority=1), Item(deadline_ns=1, priority=1), Item(priority=0)
    arrive(scheduler, 0, late, early, first_level)
    assert batches(scheduler, 0) == [[first_level, late, early]]


def test_a_level_of_priority_holds_so_many_requests_and_not_one_more() -> None:
    scheduler = serving(FixedTerms(1, max_queue_size=2), workers=0)
    refusals = arrive(scheduler, 0, Item(), Item(), Item(), Item(priority=1))
    assert [(refusal.reason, refusal.limit) for refusal in refusals] == [(Reason.QUEUE_FULL, 2)]


def test_rejected_requests_are_answered_just_after_their_timeout() -> None:
    scheduler = serving(FixedTerms(1, default_timeout_us=100), workers=0)
    item = Item()
    arrive(scheduler, 0, item)
    assert scheduler.decide(100 * US) == [WakeAt(100 * US + 1)]
    (refusal,) = scheduler.decide(100 * US + 1)
    assert isinstance(refusal, Refuse)
    assert (refusal.request, refusal.reason) == (item, Reason.EXPIRED)


def test_delayed_requests_run_after_all_that_are_in_time() -> None:
    scheduler = serving(FixedTerms(1, default_timeout_us=100, timeout_action="DELAY"))
    busy, late, timely = Item(), Item(), Item()
    arrive(scheduler, 0, busy, late)
    assert batches(scheduler, 0) == [[busy]]
    arrive(scheduler, 90, timely)
    scheduler.batch_done(0, 150 * US, 150 * US)
    assert batches(scheduler, 150) == [[timely]]
    scheduler.batch_done(0, 150 * US, 300 * US)
    assert batches(scheduler, 300) == [[late]]


def test_a_requests_own_deadline_counts_only_where_that_is_allowed_and_only_if_earlier() -> None:
    for allowed, refused in ((True, [Reason.EXPIRED]), (False, [])):
        scheduler = serving(FixedTerms(1, default_timeout_us=100, allow_timeout_override=allowed), workers=0)
        arrive(scheduler, 0, Item(deadline_ns=50 * US), Item(deadline_ns=500 * US))
        actions = scheduler.decide(60 * US)
        assert [action.reason for action in actions if isinstance(action, Refuse)] == refused


def test_impossible_terms_are_named() -> None:
    with pytest.raises(InvalidConfiguration, match="REJECT or DELAY, got 'DROP'"):
        FixedTerms(8, timeout_action="DROP")
    with pytest.raises(InvalidConfiguration, match="max_queue_delay_us is 0 or more"):
        FixedTerms(8, max_queue_delay_us=-1)
