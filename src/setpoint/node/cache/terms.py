"""What a response cache may hold, for how long, and for whom."""

from __future__ import annotations

import msgspec

from setpoint.core import MIB, InvalidConfiguration

_SCHEMES = ("redis://", "rediss://", "unix://")


class CacheTerms(msgspec.Struct, frozen=True):
    """Of one model's response cache.

    Attributes:
        budget_bytes: memory for its answers in the node; 0 keeps none there, which only makes sense with ``url``.
        ttl_s: after which an answer is computed again.
        url: of a Redis that several nodes share; empty without.
        shared: tenants may be given answers that were computed for others. Without, each has a cache of its own within
            the same budget.
        store_timeout_s: how long a request waits for the Redis before it is computed.
    """

    budget_bytes: int = 64 * MIB
    ttl_s: float = 60.0
    url: str = ""
    shared: bool = False
    store_timeout_s: float = 0.02

    def __post_init__(self) -> None:
        if self.budget_bytes < 0 or (not self.budget_bytes and not self.url):
            raise InvalidConfiguration("a response cache needs memory, such as --cache 64MiB, or a --cache-url")
        if self.ttl_s <= 0 or self.store_timeout_s <= 0:
            raise InvalidConfiguration("the times of a response cache must be above 0 s")
        if self.url and not self.url.startswith(_SCHEMES):
            raise InvalidConfiguration(
                f"--cache-url must begin with {', '.join(_SCHEMES)}; got {self.url.partition(':')[0][:20]!r}"
            )
