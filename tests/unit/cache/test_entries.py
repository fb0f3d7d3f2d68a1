"""Entries stay within their budget, leave in the order of their use, and never come out too old or changed."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from setpoint.node.cache.entries import ENTRY_OVERHEAD_BYTES, Entries
from setpoint.observe import CacheCounts

TTL_NS = 100
keys = st.sampled_from([bytes([number]) * 32 for number in range(12)])


class Value:
    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes


class Cache(RuleBasedStateMachine):
    """Beside the plainest cache that does the same: a list of entries, the least recently used first."""

    @initialize(budget_entries=st.integers(8, 20))
    def begin(self, budget_entries: int) -> None:
        self.budget_bytes = budget_entries * (ENTRY_OVERHEAD_BYTES + 100)
        self.counts = CacheCounts()
        self.entries: Entries[Value] = Entries(self.budget_bytes, TTL_NS, self.counts)
        self.model: list[tuple[bytes, Value, int]] = []
        self.now_ns = 0

    def place(self, key: bytes) -> int | None:
        return next((index for index, (known, _, _) in enumerate(self.model) if known == key), None)

    def make_room(self) -> None:
        while sum(value.size_bytes + ENTRY_OVERHEAD_BYTES for _, value, _ in self.model) > self.budget_bytes:
            del self.model[0]

    @rule(key=keys, size_bytes=st.integers(0, 2500))
    def put(self, key: bytes, size_bytes: int) -> None:
        value = Value(size_bytes)
        taken = self.entries.put(key, value, self.now_ns)
        assert taken == (size_bytes + ENTRY_OVERHEAD_BYTES <= self.budget_bytes // 8)
        if (index := self.place(key)) is not None:
            del self.model[index]
        if taken:
            self.model.append((key, value, self.now_ns + TTL_NS))
            self.make_room()

    @rule(key=keys)
    def get(self, key: bytes) -> None:
        found = self.entries.get(key, self.now_ns)
        index = self.place(key)
        if index is None:
            assert found is None
            return
        entry = self.model.pop(index)
        if self.now_ns >= entry[2]:
            assert found is None
        else:
            assert found is entry[1]
            self.model.append(entry)

    @rule(key=keys, more_bytes=st.integers(0, 3000))
    def grow(self, key: bytes, more_bytes: int) -> None:
        if (index := self.place(key)) is not None:
            self.model[index][1].size_bytes += more_bytes
            self.make_room()
        self.entries.grown(key)

    @rule(passed_ns=st.integers(0, 60))
    def sweep(self, passed_ns: int) -> None:
        self.now_ns += passed_ns
        self.entries.sweep(self.now_ns)
        self.model = [entry for entry in self.model if self.now_ns < entry[2]]

    @rule(passed_ns=st.integers(0, 60))
    def wait(self, passed_ns: int) -> None:
        self.now_ns += passed_ns

    @invariant()
    def the_books_are_right(self) -> None:
        if not hasattr(self, "entries"):
            return
        used_bytes = sum(value.size_bytes + ENTRY_OVERHEAD_BYTES for _, value, _ in self.model)
        assert self.entries.used_bytes == used_bytes <= self.budget_bytes
        assert len(self.entries) == len(self.model)
        counts = self.counts
        assert counts.stored >= len(self.entries) + counts.evicted


TestCache = Cache.TestCase
TestCache.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_sweep_is_bounded_and_what_it_leaves_is_not_given_out() -> None:
    counts = CacheCounts()
    entries: Entries[Value] = Entries(1 << 30, TTL_NS, counts)
    for number in range(2500):
        entries.put(number.to_bytes(32, "big"), Value(1), 0)
    entries.sweep(TTL_NS)
    assert (len(entries), counts.expired, counts.entries) == (1500, 1000, 1500)
    assert entries.get((2499).to_bytes(32, "big"), TTL_NS) is None
    entries.sweep(TTL_NS)
    entries.sweep(TTL_NS)
    assert (len(entries), entries.used_bytes) == (0, 0)
