"""Makers of variants. One kind to a file; other distributions offer theirs through entry points ``setpoint.makers``."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from typing import cast

from setpoint.engines import Offer, offers
from setpoint.optimize.makers.base import Made, Maker, MakerJob

ENTRY_POINT_GROUP = "setpoint.makers"

BUILT_IN = {
    # In the order asked: what costs little and gains most comes first, since the budget may end in between.
    "openvino": "setpoint.optimize.makers.openvino:OpenvinoMaker",
    "int8-dynamic": "setpoint.optimize.makers.dynamic_int8:DynamicInt8Maker",
    "int8-static": "setpoint.optimize.makers.static_int8:StaticInt8Maker",
    "fused": "setpoint.optimize.makers.fused:FusedMaker",
    "fp16": "setpoint.optimize.makers.half:HalfMaker",
    "low-rank": "setpoint.optimize.makers.low_rank:LowRankMaker",
    "pruned": "setpoint.optimize.makers.pruned:PrunedMaker",
    "weights-only": "setpoint.optimize.makers.weights_only:WeightsOnlyMaker",
    "pruned-tuned": "setpoint.optimize.makers.tuned:TunedMaker",
    "distilled": "setpoint.optimize.makers.distilled:DistilledMaker",
}

_log = logging.getLogger("setpoint.optimize")


TRAINING = ("pruned-tuned", "distilled")
"""Those of ours that train; known without importing them."""
SAME = ("openvino", "fused")
"""Those of ours that make variants with the original's own arithmetic: all that can serve where there is no data."""


def maker_names(*, training: bool) -> list[str]:
    """Every maker there is, the cheap ones of ours first. Loads those of other distributions only.

    Args:
        training: those as well that train.
    """
    ours = [name for name in BUILT_IN if training or name not in TRAINING]
    return [*ours, *(offer.name for offer in _offers() if training or not getattr(offer.loaded, "trains", False))]


def maker(name: str) -> Maker:
    """The maker of that name; imports its module."""
    if place := BUILT_IN.get(name):
        module, _, attribute = place.partition(":")
        return cast(Maker, getattr(importlib.import_module(module), attribute)())
    return cast(Maker, next(offer.loaded for offer in _offers() if offer.name == name))


def _offers() -> Iterator[Offer]:
    for offer in offers(ENTRY_POINT_GROUP, ("name", "make")):
        if offer.problem:
            _log.warning("the maker %s", offer.problem)
        else:
            yield offer


__all__ = ["BUILT_IN", "ENTRY_POINT_GROUP", "SAME", "Made", "Maker", "MakerJob", "maker", "maker_names"]
