"""What a scheduler is asked to hold, and with what."""

from __future__ import annotations

import msgspec

from setpoint.core import Goal, InvalidConfiguration, Profile

_MS = 1_000_000
_MARGIN_SHARE = 0.03
_LEAST_MARGIN_NS = _MS
"""Of every bound: for reading the request off the socket before, and for writing the answer behind what is measured."""
_TAIL_QUANTILES = ((99.0, 0.975), (0.0, 0.95))
"""Goal's percentile from which on → quantile of run times that is predicted. A whole answer is late when its own batch
or one of those before it is slow, but seldom both; ``docs/adr/0006`` has the table."""


class VariantTerms(msgspec.Struct, frozen=True):
    """One variant that may be used; all of them are resident in every worker.

    Attributes:
        name: as in the bundle.
        accuracy: measured, its lower confidence bound, 0 to 1; the original's is 1 where nothing was measured.
        profile: its latency; None where it must be learned.
    """

    name: str
    accuracy: float = 1.0
    profile: Profile | None = None


class ObjectiveTerms(msgspec.Struct, frozen=True):
    """Terms of a model that is served by deadlines.

    Attributes:
        variants: most accurate first, as ``allowed_variants`` leaves them. Where several are given, each has a profile.
        bound_ns: the objective's latency bound: what a request may take that asks for nothing shorter.
        has_objective: False where ``bound_ns`` is only a default deadline. Then nobody is refused for a prediction.
        batch_limit_rows: the largest batch.
        queue_limit_rows: rows that may wait, whatever is predicted.
        weights: tenant to its weight where that is not 1.
        margin_ns: of every deadline, for what happens after the run and is not seen here: encoding, the network.
        quantile: of run times that is predicted: a higher one has fewer late answers, and fewer answers under overload.
        flat_tolerance: a smaller batch is enough when it reaches the best attainable rate but for this share.
        leave_above: a variant is no longer held to be sustainable when the load is above this share of its capacity,
        return_below: and is again when it has been below this share of it
        return_after_ns: for so long.
    """

    variants: tuple[VariantTerms, ...]
    bound_ns: int = 60_000 * _MS
    has_objective: bool = True
    batch_limit_rows: int = 64
    queue_limit_rows: int = 4096
    weights: dict[str, float] = {}
    margin_ns: int = 0
    quantile: float = 0.95
    flat_tolerance: float = 0.03
    leave_above: float = 0.9
    return_below: float = 0.7
    return_after_ns: int = 1_000 * _MS

    @classmethod
    def holding(
        cls,
        goal: Goal,
        variants: tuple[VariantTerms, ...],
        *,
        batch_limit_rows: int = 64,
        queue_limit_rows: int = 4096,
        weights: dict[str, float] | None = None,
    ) -> ObjectiveTerms:
        """What holds a latency goal: its bound, less a margin for what is not measured, and a quantile to go by.

        The one place where that is decided, for the node and for whoever says in simulated time what it would hold.
        """
        bound_ns = goal.bound_ns
        return cls(
            variants=variants,
            bound_ns=bound_ns,
            batch_limit_rows=batch_limit_rows,
            queue_limit_rows=queue_limit_rows,
            weights=weights or {},
            margin_ns=max(min(_LEAST_MARGIN_NS, bound_ns // 5), int(bound_ns * _MARGIN_SHARE)),
            quantile=next(value for least, value in _TAIL_QUANTILES if goal.percentile >= least),
        )

    def __post_init__(self) -> None:
        if not self.variants:
            raise InvalidConfiguration("a model is served with at least one variant, none was given")
        accuracies = [variant.accuracy for variant in self.variants]
        if accuracies != sorted(accuracies, reverse=True):
            raise InvalidConfiguration(f"variants stand most accurate first, got accuracies {accuracies}")
        if len(self.variants) > 1 and (unknown := [each.name for each in self.variants if each.profile is None]):
            raise InvalidConfiguration(
                f"choosing between variants needs a profile of each; {', '.join(unknown)} has none: measure it first"
            )
        for field, least in (("bound_ns", 1), ("batch_limit_rows", 1), ("queue_limit_rows", 1)):
            if getattr(self, field) < least:
                raise InvalidConfiguration(f"{field} is at least {least}, got {getattr(self, field)}")
        if bad := {tenant: weight for tenant, weight in self.weights.items() if not weight > 0}:
            raise InvalidConfiguration(f"a tenant's weight is above 0, got {bad}")


class FixedTerms(msgspec.Struct, frozen=True):
    """A batching policy stated by hand, in Triton's terms and with their meaning.

    Attributes:
        max_batch_size: rows of a batch at most.
        max_queue_delay_us: how long the oldest request waits for others before its batch leaves unfilled.
        max_queue_size: requests that may wait at one level of priority; 0 is no limit.
        default_timeout_us: how long a request may wait; 0 is for ever.
        timeout_action: ``REJECT`` refuses it then; ``DELAY`` lets it wait behind all others of its level.
        allow_timeout_override: a request's own deadline counts where it is earlier.
    """

    max_batch_size: int
    max_queue_delay_us: int = 0
    max_queue_size: int = 0
    default_timeout_us: int = 0
    timeout_action: str = "REJECT"
    allow_timeout_override: bool = False

    def __post_init__(self) -> None:
        if self.timeout_action not in ("REJECT", "DELAY"):
            raise InvalidConfiguration(f"timeout_action is REJECT or DELAY, got {self.timeout_action!r}")
        if self.max_batch_size < 1:
            raise InvalidConfiguration(f"max_batch_size is at least 1, got {self.max_batch_size}")
        for field in ("max_queue_delay_us", "max_queue_size", "default_timeout_us"):
            if getattr(self, field) < 0:
                raise InvalidConfiguration(f"{field} is 0 or more, got {getattr(self, field)}")


def allowed_variants(variants: tuple[VariantTerms, ...], floor: float) -> tuple[VariantTerms, ...]:
    """Those that may answer: at least as accurate as the floor, most accurate first, none that is slower and worse.

    Raises:
        InvalidConfiguration: no variant is accurate enough.
    """
    ranked = sorted(variants, key=lambda variant: -variant.accuracy)
    enough = [variant for variant in ranked if variant.accuracy >= floor]
    if not enough:
        best = max((variant.accuracy for variant in variants), default=0.0)
        raise InvalidConfiguration(f"no variant reaches the accuracy floor {floor:g}; the best one has {best:g}")
    kept: list[VariantTerms] = []
    for variant in enough:
        if not kept or _pays(variant.profile, kept[-1].profile):
            kept.append(variant)
    return tuple(kept)


def _pays(cheaper: Profile | None, dearer: Profile | None) -> bool:
    """Whether a less accurate variant is faster at some measured size; where nothing was measured, no."""
    if cheaper is None or dearer is None:
        return False
    return any(point.p95_ms < dearer.p95_ms(point.rows) for point in cheaper.latency)
