"""Fair shares: moved back only while ahead, and nothing saved up but one allowance."""

from __future__ import annotations

from scheduled_items import Item

from setpoint.scheduling.shares import FairShares

ROW_NS = 1_000_000.0
ALLOWANCE_NS = 10_000_000
S = 1_000_000_000


def shares(**weights: float) -> FairShares:
    made = FairShares(weights, ALLOWANCE_NS)
    assert not made.is_several("a", [], 0)
    assert made.is_several("b", [], 0)
    return made


def enter(here: FairShares, tenant: str, count: int = 1) -> list[int]:
    """Enter requests of a tenant; how far each was moved back, in nanoseconds."""
    leads = []
    for _ in range(count):
        item = Item(tenant=tenant)
        leads.append(here.lead_ns(item, ROW_NS, 0))
        here.entered(item)
    return leads


def test_a_single_tenant_is_never_asked_about() -> None:
    here = FairShares({}, ALLOWANCE_NS)
    assert not any(here.is_several("only", [], 0) for _ in range(3))


def test_what_waits_when_the_second_tenant_appears_is_counted_to_the_first() -> None:
    here = FairShares({}, 0)
    waiting = [Item(tenant="a", rows=5)]
    here.is_several("a", [], 0)
    here.is_several("b", waiting, 0)
    assert here.lead_ns(Item(tenant="a"), ROW_NS, 0) == 5 * ROW_NS


def test_a_burst_within_the_allowance_is_not_moved_back_and_what_exceeds_it_is() -> None:
    leads = enter(shares(), "a", 15)
    assert leads[:11] == [0] * 11
    assert leads[11:] == [ROW_NS, 2 * ROW_NS, 3 * ROW_NS, 4 * ROW_NS]


def test_who_is_served_alone_saves_up_nothing_for_the_other_but_the_allowance() -> None:
    here = shares()
    for _ in range(1000):
        item = Item(tenant="a")
        here.lead_ns(item, ROW_NS, 0)
        here.entered(item)
        here.served([item], ROW_NS)
    leads = enter(here, "b", 15)
    assert leads[:10] == [0] * 10
    assert leads[14] > 0


def test_a_heavier_tenant_is_moved_back_less_for_the_same_work() -> None:
    here = shares(a=3.0)
    heavy, light = enter(here, "a", 60)[-1], enter(here, "b", 60)[-1]
    assert 0 < heavy < light / 2


def test_idle_tenants_are_forgotten_and_the_last_one_is_alone_again() -> None:
    here = shares()
    item = Item(tenant="a")
    here.lead_ns(item, ROW_NS, 30 * S)
    here.forget_idle(31 * S)
    assert not here.is_several("a", [], 31 * S)


def test_it_is_uneven_only_while_one_crowds_the_queue_and_another_that_asks_too_does_not() -> None:
    here = shares()
    served = [Item(tenant="a") for _ in range(40)]
    for item in served:
        here.lead_ns(item, ROW_NS, 0)
        here.entered(item)
    here.lead_ns(Item(tenant="b"), ROW_NS, 0)
    here.weigh(ROW_NS, S // 2, scarce=True)
    assert here.uneven, "a waits with 40 ms of work, b with none"
    here.weigh(ROW_NS, S // 2, scarce=False)
    assert not here.uneven, "all that is asked for can be held"
    here.weigh(ROW_NS, 3 * S, scarce=True)
    assert not here.uneven, "b asks no more"
    greedy = shares()
    enter(greedy, "a", 40)
    enter(greedy, "b", 40)
    greedy.weigh(ROW_NS, S // 2, scarce=True)
    assert not greedy.uneven, "both crowd it"


def test_while_it_is_uneven_who_crowds_the_queue_goes_behind_whoever_does_not() -> None:
    here = shares()
    first = enter(here, "a", 13)
    here.lead_ns(Item(tenant="b"), ROW_NS, 0)
    assert max(first) < ALLOWANCE_NS
    here.weigh(ROW_NS, S // 2, scarce=True)
    assert here.uneven
    assert here.lead_ns(Item(tenant="a"), ROW_NS, S // 2) >= ALLOWANCE_NS
    assert here.lead_ns(Item(tenant="b"), ROW_NS, S // 2) == 0
