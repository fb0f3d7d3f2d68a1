"""A request as tests need it: nothing but what the scheduler asks for."""

from __future__ import annotations

from collections.abc import Hashable


class Item:
    def __init__(
        self,
        rows: int = 1,
        lane: Hashable = "lane",
        deadline_ns: int = 0,
        priority: int = 0,
        tenant: str = "",
        alone: bool = False,
        retryable: bool = True,
    ) -> None:
        self.rows = rows
        self.lane = lane
        self.deadline_ns = deadline_ns
        self.priority = priority
        self.tenant = tenant
        self.alone = alone
        self.retryable = retryable
        self.attempts = 0
        self.gone = False
        self.waiting = False
        self.order_ns = 0

    def __repr__(self) -> str:
        return f"Item(rows={self.rows}, lane={self.lane!r}, deadline_ns={self.deadline_ns}, tenant={self.tenant!r})"
