"""What a model's statistics say in Setpoint's own terms: how its objective was held in the last seconds, and why."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from setpoint.observe.counts import TenantCounts
from setpoint.observe.histogram import Histogram, Percentiles
from setpoint.observe.model_metrics import ModelMetrics

_DIGITS = 6


class TenantReport(msgspec.Struct, frozen=True):
    """One tenant's requests in a window; as ``WindowReport``, with refusals and failures together in ``missed``."""

    offered: int
    attainment: float | None
    in_time: int
    late: int
    missed: int
    invalid: int
    cancelled: int


class WindowReport(msgspec.Struct, frozen=True):
    """What ended in the last seconds.

    Attributes:
        seconds: how many they really are.
        offered_per_s: requests that came, whether they were taken or not.
        goodput_per_s: answered within their deadline.
        attainment: in_time ÷ (in_time + late + refused + failed); None when nothing ended.
        in_time: answered within their deadline.
        late: answered after it.
        refused: by the limit they met.
        failed: by no fault of the client.
        invalid: by its fault; not in the attainment.
        cancelled: the client left; not in the attainment.
        mean_accuracy: of the answers, by the variants that made them; None when there were none.
        variants: share of the answers by variant.
        tenants: those that were named.
    """

    seconds: float
    offered_per_s: float
    goodput_per_s: float
    attainment: float | None
    in_time: int
    late: int
    refused: dict[str, int]
    failed: int
    invalid: int
    cancelled: int
    mean_accuracy: float | None
    variants: dict[str, float]
    tenants: dict[str, TenantReport]


class QueueReport(msgspec.Struct, frozen=True):
    """What waits now; ``oldest_ms`` is since when, 0 when nothing does."""

    requests: int
    rows: int
    oldest_ms: float


class StageReport(msgspec.Struct, frozen=True):
    """Times of answered requests in the last minute; None without any."""

    queue: Percentiles | None
    run: Percentiles | None
    total: Percentiles | None


class PredictionReport(msgspec.Struct, frozen=True):
    """Observed ÷ predicted time of the last minute's batches; 1 is exact, above it they took longer."""

    batches: int
    mean: float
    p10: float
    p50: float
    p90: float
    p99: float


class ModelReport(msgspec.Struct, frozen=True):
    """Everything, as ``GET /v2/models/NAME/stats`` shows it under ``setpoint``.

    Attributes:
        objective: what is to be held, in words; None when none was stated. Attainment then counts against each
            request's own or the default deadline.
        last_10s, last_60s: None in a node's first moments.
        queue: what waits.
        latency_last_60s: by stage.
        prediction_last_60s: None where nothing was predicted.
        event_loop_lag_last_60s: of the whole node.
        cache: counts of the response cache since the start; None without one.
        total_ns_histogram: arrival to answer, since the start: (highest nanoseconds of the bucket, how many). Those of
            several nodes can be added bucket by bucket.
    """

    objective: str | None
    last_10s: WindowReport | None
    last_60s: WindowReport | None
    queue: QueueReport
    latency_last_60s: StageReport
    prediction_last_60s: PredictionReport | None
    event_loop_lag_last_60s: Percentiles | None
    cache: dict[str, int] | None
    total_ns_histogram: list[tuple[int, int]]


def model_report(
    metrics: ModelMetrics,
    now_ns: int,
    queue: QueueReport,
    accuracies: Mapping[str, float],
    objective: str | None = None,
    event_loop_lag: Percentiles | None = None,
) -> ModelReport:
    """Put together what is known; ``accuracies`` are those of the model's variants, 0 to 1."""
    stages = (metrics.queue_ns, metrics.run_ns, metrics.total_ns)
    return ModelReport(
        objective,
        _window(metrics, 10, now_ns, accuracies),
        _window(metrics, 60, now_ns, accuracies),
        queue,
        StageReport(*(stage.last_minute().percentiles() for stage in stages)),
        _prediction(metrics.batches.ratio_ppm.last_minute()),
        event_loop_lag,
        metrics.cache.record() if metrics.cache is not None else None,
        metrics.total_ns.all_time().rows(),
    )


def _window(metrics: ModelMetrics, window_s: int, now_ns: int, accuracies: Mapping[str, float]) -> WindowReport | None:
    counts, seconds = metrics.windows.last(window_s, now_ns)
    if not seconds:
        return None
    return WindowReport(
        round(seconds, 3),
        round(counts.offered / seconds, 3),
        round(counts.in_time / seconds, 3),
        _rounded(counts.attainment),
        counts.in_time,
        counts.late,
        counts.refused,
        counts.failed,
        counts.invalid,
        counts.cancelled,
        _rounded(counts.mean_accuracy(accuracies)),
        {name: round(share, _DIGITS) for name, share in counts.shares().items()},
        {name: _tenant(line) for name, line in counts.tenants.items() if _seen(line)},
    )


def _seen(line: TenantCounts) -> bool:
    return any((line.offered, line.in_time, line.late, line.missed, line.invalid, line.cancelled))


def _tenant(line: TenantCounts) -> TenantReport:
    ended = line.in_time + line.late + line.missed
    attainment = _rounded(line.in_time / ended) if ended else None
    return TenantReport(line.offered, attainment, line.in_time, line.late, line.missed, line.invalid, line.cancelled)


def _prediction(ratio_ppm: Histogram) -> PredictionReport | None:
    batches = ratio_ppm.count
    if not batches:
        return None
    quantiles = (round(ratio_ppm.quantile(share) / 1e6, 4) for share in (0.1, 0.5, 0.9, 0.99))
    return PredictionReport(batches, round(ratio_ppm.total / batches / 1e6, 4), *quantiles)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
