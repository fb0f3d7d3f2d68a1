"""From what was asked for to a response cache that works."""

from __future__ import annotations

from collections.abc import Callable

from setpoint.core import Limits, Objective, RefusedError
from setpoint.node.cache.front import Ends, ResponseCache, SharedStore
from setpoint.node.cache.terms import CacheTerms
from setpoint.observe import CacheCounts
from setpoint.registry import Bundle
from setpoint.worker import Request

_LONGEST_LOOK_SHARE = 0.25
"""Of the objective's bound: a shared store may not cost more of a request's time."""


def open_cache(
    terms: CacheTerms,
    bundle: Bundle,
    objective: Objective | None,
    limits: Limits,
    *,
    counts: CacheCounts,
    now_ns: Callable[[], int],
    on_bug: Callable[[BaseException], object],
    ends: Ends,
    enqueue: Callable[[Request, int], RefusedError | None],
) -> ResponseCache:
    """A cache for one model; the arguments are those of ``ResponseCache``.

    Raises:
        MissingExtra: its terms ask for Redis, whose client is not installed.
        InvalidConfiguration: the URL cannot be read.
    """
    longest_ns = int(limits.request_timeout_s * 1e9)
    look_s = terms.store_timeout_s
    if objective is not None and objective.latency is not None:
        longest_ns = objective.latency.bound_ns
        look_s = min(look_s, longest_ns * _LONGEST_LOOK_SHARE / 1e9)
    store: SharedStore | None = None
    if terms.url:
        from setpoint.node.cache.redis_store import RedisStore  # 100 ms, for those only who ask for it

        store = RedisStore(terms.url, terms.ttl_s, look_s, counts, now_ns, on_bug)
    return ResponseCache(
        terms,
        bundle.digest,
        bundle.manifest,
        longest_ns=longest_ns,
        follower_limit=limits.queue_limit_rows,
        counts=counts,
        now_ns=now_ns,
        ends=ends,
        enqueue=enqueue,
        store=store,
    )
