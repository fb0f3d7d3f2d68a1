"""What is counted of a model's requests, as plain whole numbers; and what of them lies in the last seconds.

Only totals since the start are counted, which a Prometheus page wants anyway. A window is the difference to a copy
that was taken when it began: so windows cost a request nothing, and a model one copy a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

TENANT_LIMIT = 64
"""Tenants that are counted by name; all further ones share a line, for a name is the client's to choose."""
OTHER_TENANTS = "(other)"
_MARK_NS = 1_000_000_000
_MARKS = 61


class TenantCounts:
    """Requests of one tenant, by how they ended.

    Attributes:
        offered: all that came.
        in_time, late: answered within their deadline, or after it.
        missed: refused, or failed by no fault of the client.
        invalid: failed by the client's own mistake.
        cancelled: the client left.
    """

    __slots__ = ("cancelled", "in_time", "invalid", "late", "missed", "offered")

    def __init__(self) -> None:
        self.offered = self.in_time = self.late = self.missed = self.invalid = self.cancelled = 0

    def copy(self) -> TenantCounts:
        """As they are now."""
        return self.since(_NO_TENANT)

    def since(self, earlier: TenantCounts) -> TenantCounts:
        """What was added since then."""
        difference = TenantCounts()
        for name in self.__slots__:
            setattr(difference, name, getattr(self, name) - getattr(earlier, name))
        return difference


_NO_TENANT = TenantCounts()


class RequestCounts:
    """Requests of one model, by how they ended; each ends once.

    Attributes:
        offered: all that came to the model, refused ones included.
        in_time: answered within their deadline.
        late: answered, after it.
        refused: refused without fault of the client, by which limit they met.
        failed: failed by no fault of the client (the model, a lost worker, a bug of ours).
        invalid: failed by the client's own mistake, found by the model.
        cancelled: the client left before its answer.
        answers: answered, by the variant that made the answer.
        tenants: by tenant, where one was named; at most ``TENANT_LIMIT`` and the rest together.
    """

    __slots__ = ("answers", "cancelled", "failed", "in_time", "invalid", "late", "offered", "refused", "tenants")

    def __init__(self) -> None:
        self.offered = self.in_time = self.late = self.failed = self.invalid = self.cancelled = 0
        self.refused: dict[str, int] = {}
        self.answers: dict[str, int] = {}
        self.tenants: dict[str, TenantCounts] = {}

    def tenant(self, name: str) -> TenantCounts:
        """The line of a tenant."""
        counts = self.tenants.get(name)
        if counts is None:
            if len(self.tenants) >= TENANT_LIMIT:
                name = OTHER_TENANTS
            counts = self.tenants.setdefault(name, TenantCounts())
        return counts

    @property
    def misses(self) -> int:
        """Late answers, refusals and failures that are not the client's."""
        return self.late + self.failed + sum(self.refused.values())

    @property
    def attainment(self) -> float | None:
        """Answered in time ÷ all whose end was ours to decide; None without any.

        Clients that left and requests that were wrong in themselves are in neither number.
        """
        ended = self.in_time + self.misses
        return self.in_time / ended if ended else None

    def shares(self) -> dict[str, float]:
        """Share of the answers by variant."""
        answers = sum(self.answers.values())
        return {name: count / answers for name, count in self.answers.items() if count}

    def mean_accuracy(self, accuracies: Mapping[str, float]) -> float | None:
        """What the answers given were worth on average, 0 to 1, by that of each variant; None without any."""
        shares = self.shares()
        return sum(share * accuracies.get(name, 1.0) for name, share in shares.items()) if shares else None

    def copy(self) -> RequestCounts:
        """As they are now."""
        return self.since(_NOTHING)

    def since(self, earlier: RequestCounts) -> RequestCounts:
        """What was added since then."""
        difference = RequestCounts()
        for name in ("offered", "in_time", "late", "failed", "invalid", "cancelled"):
            setattr(difference, name, getattr(self, name) - getattr(earlier, name))
        difference.refused = _added(self.refused, earlier.refused)
        difference.answers = _added(self.answers, earlier.answers)
        for name, counts in self.tenants.items():
            difference.tenants[name] = counts.since(earlier.tenants.get(name, _NO_TENANT))
        return difference


_NOTHING = RequestCounts()


def _added(now: dict[str, int], earlier: dict[str, int]) -> dict[str, int]:
    return {name: count - earlier.get(name, 0) for name, count in now.items() if count != earlier.get(name, 0)}


class Windows:
    """Copies of counts, one a second for a minute, to take differences to."""

    __slots__ = ("_counts", "_marks", "_next_ns")

    def __init__(self, counts: RequestCounts) -> None:
        self._counts = counts
        self._marks: deque[tuple[int, RequestCounts]] = deque(maxlen=_MARKS)
        self._next_ns = 0

    def mark(self, now_ns: int) -> bool:
        """Called several times a second: takes a copy when a second has passed. Returns whether it did."""
        if now_ns < self._next_ns:
            return False
        self._next_ns = now_ns + _MARK_NS
        marks, counts = self._marks, self._counts
        unchanged = marks and _same(marks[-1][1], counts)
        marks.append((now_ns, marks[-1][1] if unchanged else counts.copy()))
        return True

    def last(self, seconds: float, now_ns: int) -> tuple[RequestCounts, float]:
        """What was counted in the last ``seconds`` (10 to 60), and how long that really was: up to a second more, or as
        long as there is something to compare with. 0 before the first mark."""
        wanted_ns = now_ns - int(seconds * 1e9)
        begin: tuple[int, RequestCounts] | None = None
        for mark in self._marks:
            if begin is not None and mark[0] > wanted_ns:
                break
            begin = mark
        if begin is None:
            return RequestCounts(), 0.0
        return self._counts.since(begin[1]), (now_ns - begin[0]) / 1e9


def _same(one: RequestCounts, other: RequestCounts) -> bool:
    """Nothing happened between them: every request changes ``offered`` when it comes and an end when it ends."""
    return _sums(one) == _sums(other)


def _sums(counts: RequestCounts) -> tuple[int, int]:
    ended: Iterable[int] = (counts.in_time, counts.misses, counts.invalid, counts.cancelled)
    return counts.offered, sum(ended)
