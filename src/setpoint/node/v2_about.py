"""What V2 says of a model besides its metadata: configuration and statistics, the same over REST and gRPC."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from setpoint.core import SystemClock
from setpoint.node.service import ModelService
from setpoint.observe import inference_totals
from setpoint.wire import model_config, statistics, statistics_entry

_now_ns = SystemClock().now_ns


def config_of(service: ModelService, most_rows: int) -> bytes:
    """Body of ``GET /v2/models/NAME/config``; ``most_rows`` may wait, so no request can have more."""
    config = service.config
    cached = config.cache is not None
    device = next(iter(service.devices.values()), config.device)
    return model_config(service.name, service.manifest, config.workers, most_rows, device=device, cached=cached)


def statistics_of(services: Iterable[ModelService], *, own: bool) -> bytes:
    """Body of ``GET /v2/models/stats``.

    Args:
        services: the models.
        own: with what Triton has no place for, under ``setpoint``: how the objective is held; gRPC has no field.
    """
    return statistics([_entry(service, own) for service in services])


def _entry(service: ModelService, own: bool) -> dict[str, Any]:
    totals = inference_totals(service.metrics)
    last_ms = 0
    if totals.last_inference_ns:
        last_ms = (time.time_ns() - (_now_ns() - totals.last_inference_ns)) // 1_000_000
    entry = statistics_entry(service.name, str(service.config.bundle.version), totals, last_ms)
    if own:
        entry["setpoint"] = service.report()
        if service.parts:
            entry["steps"] = [_entry(part, own) for part in service.parts]
    return entry
