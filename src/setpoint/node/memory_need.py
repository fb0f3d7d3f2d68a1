"""What a model needs before it was ever measured here: memory, and the time of its wake. Pure."""

from __future__ import annotations

import msgspec

from setpoint.core import COMPOSITION_ENGINE, Composition
from setpoint.node.config import ModelConfig
from setpoint.scheduling import VariantTerms

_MIB = 1 << 20
_WORKER_BYTES = 32 * _MIB
"""A forked worker without a model, with its share of what it has in common with others."""
_WEIGHTS_FACTOR = 1.5
"""Engines keep some weights a second time, rearranged, beside the file's own pages."""
_WAKE_NS = 150_000_000
_LOAD_NS_PER_BYTE = 2.0
"""Half a gigabyte a second."""


class Need(msgspec.Struct, frozen=True):
    """What one model takes.

    Attributes:
        least_bytes: certainly more than this.
        likely_bytes: of all its workers together, when it is awake.
        wake_ns: from parked to its first answer.
    """

    least_bytes: int
    likely_bytes: int
    wake_ns: int


def need_of(config: ModelConfig, variants: tuple[str, ...]) -> Need:
    """From its profiles where it has some, else from the sizes of its files.

    Args:
        config: the model.
        variants: that each of its workers holds.
    """
    bundle = config.bundle
    profiles = {profile.variant: profile for profile in bundle.manifest.profiles}
    if profiles and all(name in profiles for name in variants):
        held = [profiles[name] for name in variants]
        each_bytes = sum(profile.memory_bytes for profile in held)
        return Need(
            each_bytes,
            config.workers * (_WORKER_BYTES + each_bytes),
            _WAKE_NS + int(sum(profile.load_ms + profile.warmup_ms for profile in held) * 1e6),
        )
    runs_python = any(variant.engine in ("python", COMPOSITION_ENGINE) for variant in bundle.manifest.variants)
    composition = bundle.manifest.composition
    models = len(composition.parts) if isinstance(composition, Composition) else 1
    size_bytes = bundle.size_bytes
    return Need(
        # Nobody knows which of its files a class reads. An engine reads all of the model's, or maps them.
        0 if runs_python else size_bytes,
        config.workers * (models * _WORKER_BYTES + int(_WEIGHTS_FACTOR * size_bytes)),
        _WAKE_NS + int(_LOAD_NS_PER_BYTE * size_bytes),
    )


def fitting(variants: tuple[VariantTerms, ...], workers: int, room_bytes: int) -> tuple[VariantTerms, ...]:
    """Those of a front that fit into the memory together: the most accurate, then the fastest, then those between.

    The most accurate one always stays: whether there is room for it at all is another question. The fastest comes
    before those between, since it is what holds the load when it is highest.

    Args:
        variants: measured, the most accurate and slowest first.
        workers: each of which holds all of them.
        room_bytes: for all workers together; 0 is no bound.
    """
    if not room_bytes or len(variants) < 2:
        return variants
    left_bytes = room_bytes // workers - _WORKER_BYTES
    kept: list[VariantTerms] = []
    for variant in (variants[0], *reversed(variants[1:])):
        needed_bytes = variant.profile.memory_bytes if variant.profile is not None else 0
        if not kept or needed_bytes <= left_bytes:
            kept.append(variant)
            left_bytes -= needed_bytes
    return tuple(variant for variant in variants if variant in kept)


def bytes_text(count: int) -> str:
    """Bytes for people: ``310 MiB``, ``1.9 GiB``."""
    return f"{count / _MIB / 1024:.1f} GiB" if count >= 1024 * _MIB else f"{count / _MIB:.0f} MiB"
