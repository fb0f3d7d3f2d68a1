"""From what was asked for a model to the terms that its scheduler holds, and to the policy that holds them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import cast

import msgspec

from setpoint.core import Endpoint, Limits, Profile
from setpoint.machine import on_device
from setpoint.node.config import ModelConfig
from setpoint.node.memory_need import fitting
from setpoint.scheduling import (
    FixedPolicy,
    ObjectivePolicy,
    ObjectiveTerms,
    Policy,
    VariantTerms,
    allowed_variants,
    held_rows_per_s,
    worth_per_s,
)
from setpoint.worker import CALL_LIMIT_REQUESTS, Request

Hardware = Callable[[str], str]


def policy_of(config: ModelConfig, limits: Limits, hardware: Hardware) -> tuple[Policy[Request], tuple[str, ...]]:
    """The policy for a model, and the variants that its workers hold, in the order in which the policy names them.

    Args:
        config: what was asked for.
        limits: of the node.
        hardware: this machine's fingerprint for an engine: what was measured elsewhere does not count.

    Raises:
        InvalidConfiguration: no variant is accurate enough for the objective.
    """
    manifest = config.bundle.manifest
    limit_rows = _lane_limits(manifest.endpoints)
    if config.batching is not None:
        return FixedPolicy(config.batching, limit_rows), (variant_of(config).name,)
    terms = terms_of(config, limits, hardware)
    return ObjectivePolicy(terms, limit_rows), tuple(variant.name for variant in terms.variants)


def terms_of(config: ModelConfig, limits: Limits, hardware: Hardware) -> ObjectiveTerms:
    """What the scheduler is to hold: the objective's bound, or the longest that any request may live."""
    latency = config.objective.latency if config.objective is not None else None
    variants = _variants(config, hardware)
    if latency is not None:
        return ObjectiveTerms.holding(
            latency,
            variants,
            batch_limit_rows=CALL_LIMIT_REQUESTS,
            queue_limit_rows=limits.queue_limit_rows,
            weights=config.weights,
        )
    return ObjectiveTerms(
        variants,
        bound_ns=int(limits.request_timeout_s * 1e9),
        has_objective=False,
        batch_limit_rows=CALL_LIMIT_REQUESTS,
        queue_limit_rows=limits.queue_limit_rows,
        weights=config.weights,
    )


def best_layout(config: ModelConfig, limits: Limits, hardware: Hardware, cores: int) -> tuple[int, int] | None:
    """Workers and threads on these cores with which the model's variants hold most, by their profiles.

    All variants are resident, and the scheduler prefers the most accurate one while it can: so the fastest decides.

    Returns:
        None where nothing was measured on this hardware, or nothing holds the objective.
    """
    best: tuple[int, int] | None = None
    best_rows_per_s = 0.0
    for threads in sorted({profile.threads for profile in config.bundle.manifest.profiles}):
        workers = max(1, cores // threads)
        terms = terms_of(msgspec.structs.replace(config, workers=workers, threads=threads), limits, hardware)
        if terms.variants[0].profile is not None:
            rows_per_s = worth_per_s(max(held_rows_per_s(terms, workers)), threads)
            if rows_per_s > best_rows_per_s:
                best, best_rows_per_s = (workers, threads), rows_per_s
    return best


def judged_elsewhere(config: ModelConfig, hardware: Hardware) -> bool:
    """Whether variants could serve by the objective, but were measured and judged on other hardware alone.

    An answer in 8 bits is another one on another processor, so their accuracy counts no more than their speed.
    """
    manifest = config.bundle.manifest
    if config.variant or config.objective is None or config.objective.drop is None or len(manifest.variants) < 2:
        return False
    measured = {(profile.variant, profile.hardware) for profile in manifest.profiles}
    here = {(each.name, on_device(hardware(each.engine), config.device)) for each in manifest.variants}
    return not measured & here


def variant_of(config: ModelConfig) -> VariantTerms:
    """The one variant that serves where there is no choice: the one asked for, or the most accurate."""
    manifest = config.bundle.manifest
    variant = manifest.variant(config.variant) if config.variant else manifest.variants[0]
    return VariantTerms(variant.name, variant.accuracy)


def _variants(config: ModelConfig, hardware: Hardware) -> tuple[VariantTerms, ...]:
    """Those that may answer. A less accurate one only where the objective says how much may be lost, and it is known
    what it takes on this machine with these threads."""
    manifest = config.bundle.manifest
    only = variant_of(config)
    profile = _profile(config, only.name, hardware)
    first = VariantTerms(only.name, only.accuracy, profile)
    if config.variant or profile is None or config.objective is None or config.objective.drop is None:
        return (first,)
    measured = [
        VariantTerms(variant.name, variant.accuracy, measured)
        for variant in manifest.variants
        if (measured := _profile(config, variant.name, hardware)) is not None
    ]
    allowed = allowed_variants(tuple(measured), 1.0 - config.objective.drop.bound / 100.0)
    return fitting(allowed, config.workers, config.room_bytes)


def _profile(config: ModelConfig, variant: str, hardware: Hardware) -> Profile | None:
    manifest = config.bundle.manifest
    # Where several devices were asked for, nobody knows before it is loaded on which it will be.
    here = on_device(hardware(manifest.variant(variant).engine), config.device)
    return next(
        (
            profile
            for profile in manifest.profiles
            if (profile.variant, profile.hardware, profile.threads) == (variant, here, config.threads)
        ),
        None,
    )


def _lane_limits(endpoints: Sequence[Endpoint]) -> Callable[[Hashable], int]:
    """The largest batch of a lane is its endpoint's; the first part of every lane is its endpoint's name."""
    by_name = {each.name: min(max(1, each.batch_rows), CALL_LIMIT_REQUESTS) for each in endpoints}
    return lambda lane: by_name[cast("tuple[str, ...]", lane)[0]]
