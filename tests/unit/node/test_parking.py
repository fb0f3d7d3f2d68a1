"""Models take turns in a node's memory: never more than there is, each asked one its turn, none thrashed or starved."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from setpoint.node.parking import HOLDING, GiveUp, Park, ParkingLot, Phase, Use, Wake

MIB = 1 << 20
S = 1_000_000_000
IDLE = Use(busy=False, last_ns=0)


def idle(_: str) -> Use:
    return IDLE


def lot_of(budget_mib: int, **sizes_mib: int) -> ParkingLot:
    lot = ParkingLot(budget_mib * MIB)
    for name, size_mib in sizes_mib.items():
        lot.add(name, size_mib * MIB, S // 10)
    return lot


def awake(lot: ParkingLot, name: str, now_ns: int) -> None:
    lot.asked(name, now_ns)
    assert lot.decide(now_ns, idle) == [Wake(name)]
    lot.woke(name, lot.berth(name).size_bytes, now_ns + S // 10)


def test_many_asking_for_one_parked_model_wake_it_once() -> None:
    lot = lot_of(100, a=10)
    for now_ns in range(5):
        lot.asked("a", now_ns)
    assert lot.decide(5, idle) == [Wake("a")]
    lot.asked("a", 6)
    assert lot.decide(7, idle) == []


def test_the_least_recently_used_is_parked_for_who_is_asked() -> None:
    lot = lot_of(25, a=10, b=10, c=10)
    awake(lot, "a", 0)
    awake(lot, "b", S)
    last_ns = {"a": 5 * S, "b": 4 * S}
    use = {name: Use(busy=False, last_ns=last) for name, last in last_ns.items()}
    lot.asked("c", 10 * S)
    assert lot.decide(10 * S, use.__getitem__) == [Park("b")]
    assert lot.decide(10 * S, use.__getitem__) == [], "its memory is not free before its workers have ended"
    lot.parked("b", 11 * S)
    assert lot.decide(11 * S, use.__getitem__) == [Wake("c")]


def test_a_small_one_stays_where_the_large_one_after_it_is_enough() -> None:
    lot = lot_of(60, small=10, large=40, new=45)
    awake(lot, "small", 0)
    awake(lot, "large", S)
    lot.asked("new", 20 * S)
    assert lot.decide(20 * S, idle) == [Park("large")]


def test_a_busy_model_is_never_parked() -> None:
    lot = lot_of(15, a=10, b=10)
    awake(lot, "a", 0)
    lot.asked("b", 20 * S)
    assert lot.decide(20 * S, lambda _: Use(busy=True, last_ns=0)) == []
    assert lot.decide(21 * S, idle) == [Park("a")]


def test_a_model_just_woken_stays_five_times_as_long_as_its_wake_took() -> None:
    lot = lot_of(15, a=10, b=10)
    lot.asked("a", 0)
    lot.decide(0, idle)
    lot.woke("a", 10 * MIB, 2 * S)
    lot.asked("b", 3 * S)
    assert lot.decide(11 * S, idle) == []
    assert lot.predicted_wait_ns("b", 11 * S) == S + S // 10
    assert lot.decide(12 * S, idle) == [Park("a")]


def test_waking_two_models_in_turn_takes_a_sixth_of_the_time_at_most() -> None:
    lot = lot_of(15, a=10, b=10)
    wake_ns, now_ns, woken = S // 2, 0, 0
    while now_ns < 100 * S:
        lot.asked("a", now_ns)
        lot.asked("b", now_ns)
        while actions := lot.decide(now_ns, idle):
            for action in actions:
                if isinstance(action, Park):
                    lot.parked(action.name, now_ns)
                else:
                    now_ns += wake_ns
                    woken += 1
                    lot.woke(action.name, 10 * MIB, now_ns)
        now_ns += S // 100
    assert 25 <= woken <= 100 * S / (wake_ns * 6) + 1


def test_a_model_measured_larger_than_the_memory_is_given_up_and_does_not_stand_in_the_way() -> None:
    lot = lot_of(50, huge=60, a=10)
    lot.asked("huge", 0)
    assert lot.decide(0, idle) == [Wake("huge")], "it was only estimated: alone, it is tried"
    assert lot.held_bytes <= lot.budget_bytes
    lot.woke("huge", 60 * MIB, S)
    assert lot.decide(S, idle) == [Park("huge")]
    lot.parked("huge", S)
    lot.asked("huge", 2 * S)
    lot.asked("a", 2 * S)
    assert lot.decide(2 * S, idle) == [GiveUp("huge"), Wake("a")]
    assert lot.phase("huge") is Phase.PARKED


def test_a_wake_that_failed_is_tried_again_later_each_time() -> None:
    lot = lot_of(50, a=10)
    now_ns, delays_s = 0, []
    for _ in range(8):
        lot.asked("a", now_ns)
        assert lot.decide(now_ns, idle) == [Wake("a")]
        lot.wake_failed("a", now_ns)
        assert lot.held_bytes == 0
        delay_ns = lot.berth("a").retry_ns - now_ns
        delays_s.append(delay_ns // S)
        lot.asked("a", now_ns + delay_ns - 1)
        assert lot.decide(now_ns + delay_ns - 1, idle) == []
        now_ns += delay_ns
    assert delays_s == [1, 2, 4, 8, 16, 32, 60, 60]


def test_growth_beyond_the_memory_parks_idle_models_however_new_they_are() -> None:
    lot = lot_of(50, a=20, b=20)
    awake(lot, "a", 0)
    awake(lot, "b", 1)
    lot.measured("b", 45 * MIB)
    assert lot.decide(2, idle) == [Park("a")]


def test_asked_while_it_is_parked_it_is_woken_again() -> None:
    lot = lot_of(15, a=10, b=10)
    awake(lot, "a", 0)
    lot.asked("b", 20 * S)
    assert lot.decide(20 * S, idle) == [Park("a")]
    lot.asked("a", 20 * S)
    lot.parked("a", 21 * S)
    assert lot.decide(21 * S, idle) == [Wake("b")], "who asked first comes first"
    assert lot.phase("a") is Phase.WAITING


def test_the_predicted_wait_counts_who_is_before() -> None:
    lot = lot_of(100, a=10, b=10, c=10)
    for name in "abc":
        lot.asked(name, 0)
    assert lot.decide(0, idle) == [Wake("a")]
    assert lot.predicted_wait_ns("a", 0) == S // 10
    assert lot.predicted_wait_ns("b", 0) == 2 * S // 10
    assert lot.predicted_wait_ns("c", S // 20) == 25 * S // 100


NAMES = [f"m{number}" for number in range(6)]


class Lots(RuleBasedStateMachine):
    """Everything that may happen, in any order; processes do what they are told, when they like."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 0
        self.budget = 100 * MIB
        self.lot = ParkingLot(self.budget, wakes_at_once=2)
        self.busy: set[str] = set()
        self.last_ns: dict[str, int] = {}
        self.decided = True

    def use(self, name: str) -> Use:
        return Use(busy=name in self.busy, last_ns=self.last_ns.get(name, 0))

    def in_phase(self, phase: Phase) -> list[str]:
        return [name for name in NAMES if name in self.lot and self.lot.phase(name) is phase]

    @rule(data=st.data(), size_mib=st.integers(1, 120))
    def add(self, data: st.DataObject, size_mib: int) -> None:
        absent = [name for name in NAMES if name not in self.lot]
        if absent:
            self.lot.add(data.draw(st.sampled_from(absent)), size_mib * MIB, S // 5)

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        parked = self.in_phase(Phase.PARKED) + self.in_phase(Phase.WAITING)
        if parked:
            self.lot.remove(data.draw(st.sampled_from(parked)))

    @rule(data=st.data(), busy=st.booleans())
    def ask(self, data: st.DataObject, busy: bool) -> None:
        present = [name for name in NAMES if name in self.lot]
        if not present:
            return
        name = data.draw(st.sampled_from(present))
        self.last_ns[name] = self.now_ns
        if self.lot.phase(name) is Phase.AWAKE and busy:
            self.busy.add(name)
        else:
            self.lot.asked(name, self.now_ns)

    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        if self.busy:
            self.busy.remove(data.draw(st.sampled_from(sorted(self.busy))))

    @rule(seconds=st.floats(0, 20))
    def pass_time(self, seconds: float) -> None:
        self.now_ns += int(seconds * S)

    @rule()
    def decide(self) -> None:
        before = {name: self.lot.phase(name) for name in NAMES if name in self.lot}
        held_before = self.lot.held_bytes
        actions = self.lot.decide(self.now_ns, self.use)
        assert len({action.name for action in actions}) == len(actions)
        for action in actions:
            if isinstance(action, Wake):
                assert before[action.name] is Phase.WAITING
                assert self.lot.held_bytes <= self.budget, "a wake is never decided beyond the budget"
            elif isinstance(action, Park):
                assert before[action.name] is Phase.AWAKE
                assert action.name not in self.busy
            else:
                assert self.lot.berth(action.name).size_bytes > self.budget
        assert self.lot.held_bytes <= max(self.budget, held_before)
        assert len(self.in_phase(Phase.WAKING)) <= 2

    @precondition(lambda self: self.in_phase(Phase.WAKING))
    @rule(data=st.data(), growth=st.sampled_from([0.5, 1.0, 1.0, 1.5]))
    def wake(self, data: st.DataObject, growth: float) -> None:
        name = data.draw(st.sampled_from(self.in_phase(Phase.WAKING)))
        self.lot.woke(name, int(self.lot.berth(name).size_bytes * growth), self.now_ns)

    @precondition(lambda self: self.in_phase(Phase.WAKING))
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        self.lot.wake_failed(data.draw(st.sampled_from(self.in_phase(Phase.WAKING))), self.now_ns)

    @precondition(lambda self: self.in_phase(Phase.PARKING))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.lot.parked(data.draw(st.sampled_from(self.in_phase(Phase.PARKING))), self.now_ns)

    @invariant()
    def books_balance(self) -> None:
        lot = self.lot
        held = sum(lot.berth(n).size_bytes for n in NAMES if n in lot and lot.phase(n) in HOLDING)
        assert lot.held_bytes == held
        for name in NAMES:
            if name in lot:
                assert (lot.phase(name) is Phase.WAITING) == (lot._waiting.count(name) == 1)
                assert lot.predicted_wait_ns(name, self.now_ns) >= 0

    def teardown(self) -> None:
        """When nothing new comes and everybody does what he is told, all who wait are woken or given up."""
        self.busy.clear()
        waiting, served = set(self.in_phase(Phase.WAITING)), set()
        for _ in range(60):
            for name in self.in_phase(Phase.PARKING):
                self.lot.parked(name, self.now_ns)
            for name in self.in_phase(Phase.WAKING):
                self.lot.woke(name, self.lot.berth(name).size_bytes, self.now_ns)
            for action in self.lot.decide(self.now_ns, self.use):
                if not isinstance(action, Park):
                    served.add(action.name)
            self.now_ns += 5 * S
        assert waiting <= served


TestLots = Lots.TestCase
TestLots.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
