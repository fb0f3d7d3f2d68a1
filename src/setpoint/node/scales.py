"""What the processes of a node hold, as the kernel tells it: memory that several share is counted in parts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from typing import Protocol

from setpoint.machine import pss_bytes


class Weighed(Protocol):
    """What has processes of its own."""

    def memory_bytes(self) -> int:
        """What they hold."""
        ...


class Scales:
    """Weighs models, and the node itself with the processes that work for all models.

    The kernel walks all pages of a process for it, about a millisecond for each: so it is done in a thread.

    Args:
        shared_pids: processes that work for all models.
    """

    def __init__(self, shared_pids: Callable[[], Iterable[int]] = tuple) -> None:
        self._shared_pids = shared_pids

    def own_bytes(self) -> int:
        """What this process and the shared ones hold; not in a thread."""
        return sum(map(pss_bytes, (os.getpid(), *self._shared_pids())))

    async def own(self) -> int:
        """The same, in a thread."""
        return await asyncio.to_thread(self.own_bytes)

    async def of(self, model: Weighed) -> int:
        """What a model's workers hold; 0 where it has none."""
        return await asyncio.to_thread(model.memory_bytes)
