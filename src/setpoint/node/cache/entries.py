"""What is kept, within a budget of bytes: the least recently used goes first, nothing is given out too old. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

from setpoint.observe import CacheCounts

ENTRY_OVERHEAD_BYTES = 450
"""About what an entry takes besides its value: key, record, and its places in both orders."""
_LARGEST_SHARE = 8
"""No value may take more than this part of the budget: one answer must not push out all others."""
_SWEPT_ENTRIES = 1000
"""At most so many in one sweep; what is left over is never given out, and goes in the next."""


class Sized(Protocol):
    """A value that knows its size, which may grow while it is kept."""

    size_bytes: int


V = TypeVar("V", bound=Sized)


class _Entry(Generic[V]):
    __slots__ = ("counted_bytes", "expires_ns", "value")

    def __init__(self, value: V, counted_bytes: int, expires_ns: int) -> None:
        self.value = value
        self.counted_bytes = counted_bytes
        self.expires_ns = expires_ns


class Entries(Generic[V]):
    """Keys to values.

    Attributes:
        used_bytes: of all entries, their overhead included; never above the budget.
    """

    def __init__(self, budget_bytes: int, ttl_ns: int, counts: CacheCounts) -> None:
        self._budget_bytes = budget_bytes
        self._ttl_ns = ttl_ns
        self._counts = counts
        self._by_use: OrderedDict[bytes, _Entry[V]] = OrderedDict()
        self._by_age: OrderedDict[bytes, None] = OrderedDict()  # one time to live for all: the oldest expires first
        self.used_bytes = 0

    @property
    def largest_bytes(self) -> int:
        """Of a value that is taken."""
        return self._budget_bytes // _LARGEST_SHARE - ENTRY_OVERHEAD_BYTES

    def get(self, key: bytes, now_ns: int) -> V | None:
        """The value, which is now the most recently used; None where there is none that is young enough."""
        entry = self._by_use.get(key)
        if entry is None:
            return None
        if now_ns >= entry.expires_ns:
            self._drop(key)
            self._counts.expired += 1
            return None
        self._by_use.move_to_end(key)
        return entry.value

    def put(self, key: bytes, value: V, now_ns: int) -> bool:
        """Keep a value; False where it is too large."""
        if key in self._by_use:
            self._drop(key)
        if value.size_bytes > self.largest_bytes:
            self._counts.oversize += 1
            return False
        size_bytes = value.size_bytes + ENTRY_OVERHEAD_BYTES
        self._by_use[key] = _Entry(value, size_bytes, now_ns + self._ttl_ns)
        self._by_age[key] = None
        self.used_bytes += size_bytes
        self._make_room()
        self._counts.stored += 1
        self._tell()
        return True

    def grown(self, key: bytes) -> None:
        """A value became larger, or one of its size: count it anew. It may push out others, or itself."""
        entry = self._by_use.get(key)
        if entry is None:
            return
        size_bytes = entry.value.size_bytes + ENTRY_OVERHEAD_BYTES
        self.used_bytes += size_bytes - entry.counted_bytes
        entry.counted_bytes = size_bytes
        self._make_room()
        self._tell()

    def sweep(self, now_ns: int) -> None:
        """Drop what is too old."""
        for _ in range(_SWEPT_ENTRIES):
            key = next(iter(self._by_age), None)
            if key is None or now_ns < self._by_use[key].expires_ns:
                break
            self._drop(key)
            self._counts.expired += 1
        self._tell()

    def __len__(self) -> int:
        return len(self._by_use)

    def __contains__(self, key: bytes) -> bool:
        return key in self._by_use

    def _make_room(self) -> None:
        while self.used_bytes > self._budget_bytes:
            self._drop(next(iter(self._by_use)))
            self._counts.evicted += 1

    def _drop(self, key: bytes) -> None:
        self.used_bytes -= self._by_use.pop(key).counted_bytes
        del self._by_age[key]

    def _tell(self) -> None:
        self._counts.entries = len(self._by_use)
        self._counts.bytes = self.used_bytes
