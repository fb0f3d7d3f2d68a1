"""Fair shares: whose requests go first when several tenants want more than there is.

Each tenant has a counter of the service it got, divided by its weight. The node's own counter is the highest of those
served; one who comes back after a pause is lifted to it, but for an allowance that lets him come in bursts, so that
nobody saves up a right to crowd out the others. A request of a tenant whose counter, with what it has waiting already,
is ahead of the node's is moved back in the queue by the time that the others need to draw level. Within its share a
tenant is never moved back: then the queue is in the order of deadlines alone. (Start-time fair queueing, told as a
delay of deadlines, so that one order serves both.) While one tenant crowds the queue and another does not, that one
goes behind this one by the whole allowance: it waits for what it asks too much, and nobody else does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from setpoint.scheduling.schedulable import Schedulable

T = TypeVar("T", bound=Schedulable)
_ACTIVE_NS = 1_000_000_000
"""So long after a tenant's last request others are held to shorter runs for it."""
_BEHIND = 0.1
"""Of the allowance that a tenant has left, from which on it counts as within its share. Little, since a queue full of
others' work is when a tenant that asks for most of its share is served late, and so nearly up to it."""
_REMEMBERED_NS = 10_000_000_000
"""A tenant counts as active for so long after its last request."""


class _Account:
    __slots__ = ("counter_ns", "last_ns", "waiting_rows", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.counter_ns = 0.0
        self.waiting_rows = 0
        self.last_ns = 0


class FairShares:
    """Counters of tenants. With a single tenant it does nothing, and costs nothing.

    Attributes:
        only: the tenant while there is one.
        several: whether there are more.
        uneven: one of them asks for more than its share while another does not; as of ``weigh``.
    """

    __slots__ = ("_accounts", "_allowance_ns", "_node_ns", "_weights", "_weights_sum", "only", "several", "uneven")

    def __init__(self, weights: Mapping[str, float], allowance_ns: int) -> None:
        """Know nobody.

        Args:
            allowance_ns: service for a weight of 1 that a tenant may have ahead of its share at a time.
        """
        self._weights = weights
        self._allowance_ns = allowance_ns
        self._accounts: dict[str, _Account] = {}
        self._weights_sum = 0.0
        self._node_ns = 0.0
        self.only: str | None = None
        self.several = False
        self.uneven = False

    def is_several(self, tenant: str, waiting: Iterable[Schedulable], now_ns: int) -> bool:
        """Whether there is more than one tenant, this one included; ``waiting`` is counted when the second appears."""
        if tenant == self.only or self.several:
            return self.several
        if self.only is None:
            self.only = tenant
            return False
        self.several = True
        for request in waiting:
            self._account(request.tenant).waiting_rows += request.rows
        self._account(self.only)
        self._account(tenant)
        for account in self._accounts.values():
            account.last_ns = now_ns
        return True

    def _account(self, tenant: str) -> _Account:
        account = self._accounts.get(tenant)
        if account is None:
            account = self._accounts[tenant] = _Account(self._weights.get(tenant, 1.0))
            account.counter_ns = self._node_ns - self._allowance_ns
            self._weights_sum += account.weight
        return account

    def lead_ns(self, request: T, row_ns: float, now_ns: int) -> int:
        """How far a new request is to be moved back.

        Args:
            row_ns: what one row costs the whole node.
        """
        account = self._account(request.tenant)
        account.last_ns = now_ns
        if not account.waiting_rows:
            account.counter_ns = max(account.counter_ns, self._node_ns - self._allowance_ns)
        ahead_ns = account.counter_ns + account.waiting_rows * row_ns / account.weight - self._node_ns
        if ahead_ns <= 0.0:
            return 0
        lead_ns = int(ahead_ns * (self._weights_sum - account.weight))
        return max(lead_ns, self._allowance_ns) if self.uneven else lead_ns

    def entered(self, request: T) -> None:
        """A request waits now."""
        self._account(request.tenant).waiting_rows += request.rows

    def left(self, request: T) -> None:
        """A request waits no more, and was not served."""
        self._account(request.tenant).waiting_rows -= request.rows

    def served(self, requests: Sequence[T], row_ns: float) -> None:
        """Requests are being served, each of whose rows costs the node ``row_ns``."""
        for request in requests:
            account = self._account(request.tenant)
            self._node_ns = max(self._node_ns, account.counter_ns)
            account.waiting_rows -= request.rows
            account.counter_ns += request.rows * row_ns / account.weight

    def weigh(self, row_ns: float, now_ns: int, scarce: bool) -> None:
        """See whether one tenant crowds the queue while another stays within its share: ``uneven``.

        Args:
            row_ns: what one row costs the whole node.
            scarce: all of them together ask for more than can be held. Else the one that asks for most only looks as if
                it crowded the queue, in bursts, and shorter batches would be at its expense.
        """
        if not scarce:
            self.uneven = False
            return
        ahead_ns = [
            account.counter_ns + account.waiting_rows * row_ns / account.weight - self._node_ns
            for account in self._accounts.values()
            if now_ns - account.last_ns < _ACTIVE_NS
        ]
        self.uneven = len(ahead_ns) > 1 and max(ahead_ns) > 0.0 and min(ahead_ns) < -_BEHIND * self._allowance_ns

    def forget_idle(self, now_ns: int) -> None:
        """Forget tenants that asked for nothing of late; the last one left is alone again."""
        idle = [
            tenant
            for tenant, account in self._accounts.items()
            if not account.waiting_rows and now_ns - account.last_ns > _REMEMBERED_NS
        ]
        for tenant in idle:
            self._weights_sum -= self._accounts.pop(tenant).weight
        if self.several and len(self._accounts) < 2:
            self.only = next(iter(self._accounts), None)
            self._accounts.clear()
            self._weights_sum = 0.0
            self.several = self.uneven = False
