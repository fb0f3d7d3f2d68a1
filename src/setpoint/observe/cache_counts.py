"""What is counted of a model's response cache."""

from __future__ import annotations

from setpoint.observe.prometheus import Family, Sample


class CacheCounts:
    """Requests by what the cache did for them, and what became of its entries.

    Attributes:
        hits: answered from memory.
        shared_hits: answered from the store that several nodes share.
        coalesced: answered with the answer of an identical request that was in flight.
        misses: not answered by the cache; each runs, or would have run if it had not been refused.
        hit_ns: sum of what looking up and answering took for ``hits`` and ``shared_hits``.
        coalesced_ns: sum of what those waited.
        miss_ns: sum of what looking up and storing took for ``misses``.
        stored: answers that were put in.
        evicted: entries that made room.
        expired: entries that became too old.
        oversize: answers that were too large to be put in.
        invalid: entries of the shared store that were not what their key says.
        failures: operations of the shared store that failed or took too long.
        skipped: operations of the shared store that were not tried, since it is down or too many are under way.
        entries, bytes: in memory now.
    """

    __slots__ = (
        "bytes",
        "coalesced",
        "coalesced_ns",
        "entries",
        "evicted",
        "expired",
        "failures",
        "hit_ns",
        "hits",
        "invalid",
        "miss_ns",
        "misses",
        "oversize",
        "shared_hits",
        "skipped",
        "stored",
    )

    def __init__(self) -> None:
        self.hits = self.shared_hits = self.coalesced = self.misses = 0
        self.hit_ns = self.coalesced_ns = self.miss_ns = 0
        self.stored = self.evicted = self.expired = self.oversize = self.invalid = self.failures = self.skipped = 0
        self.entries = self.bytes = 0

    def record(self) -> dict[str, int]:
        """Everything, by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    def families(self, labels: dict[str, str]) -> list[Family]:
        """As series with these labels."""

        def by(label: str, *names: str) -> tuple[Sample, ...]:
            return tuple(Sample({**labels, label: name.removesuffix("s")}, getattr(self, name)) for name in names)

        return [
            Family(
                "setpoint_cache_requests_total",
                "counter",
                "Requests of a model with a response cache, by what it did: hit, shared_hit, coalesced, miss.",
                (*by("result", "hits", "shared_hits", "coalesced"), Sample({**labels, "result": "miss"}, self.misses)),
            ),
            Family(
                "setpoint_cache_answers_total",
                "counter",
                "Answers and entries of a response cache: stored, evicted for room, expired, oversize, invalid.",
                by("event", "stored", "evicted", "expired", "oversize", "invalid"),
            ),
            Family(
                "setpoint_cache_shared_store_total",
                "counter",
                "Operations of the shared store that gave nothing: failures (errors, time-outs) and skipped ones.",
                by("event", "failures", "skipped"),
            ),
            Family("setpoint_cache_entries", "gauge", "Answers in memory.", (Sample(labels, self.entries),)),
            Family("setpoint_cache_bytes", "gauge", "Memory of those answers.", (Sample(labels, self.bytes),)),
        ]
