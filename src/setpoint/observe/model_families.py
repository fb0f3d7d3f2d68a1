"""A model's counters and histograms as Prometheus families."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from setpoint.observe.histogram import LATENCY_BOUNDS_NS, RATIO_BOUNDS_PPM
from setpoint.observe.model_metrics import ModelMetrics
from setpoint.observe.prometheus import Family, Sample
from setpoint.observe.rolling import RollingHistogram

_NS_TO_S = 1e-9
_WINDOWS_S = (10, 60)


def model_families(
    metrics: ModelMetrics, labels: dict[str, str], now_ns: int, accuracies: Mapping[str, float]
) -> list[Family]:
    """Everything that is counted of a model.

    Args:
        metrics: the model's.
        labels: of every series.
        now_ns: the time.
        accuracies: of each variant, 0 to 1.
    """
    return [*_requests(metrics, labels), *_times(metrics, labels), *_windows(metrics, labels, now_ns, accuracies)]


def _requests(metrics: ModelMetrics, labels: dict[str, str]) -> Iterator[Family]:
    counts = metrics.counts

    def by(label: str, numbers: Mapping[str, int]) -> tuple[Sample, ...]:
        return tuple(Sample({**labels, label: name}, count) for name, count in sorted(numbers.items()))

    yield Family(
        "setpoint_requests_total",
        "counter",
        "Requests that reached a model, by outcome: ok, cancelled, or the kind of error.",
        by("outcome", metrics.outcomes),
    )
    yield Family(
        "setpoint_requests_accepted_total",
        "counter",
        "Requests that entered a model's queue or were answered by its cache.",
        (Sample(labels, metrics.accepted),),
    )
    yield Family(
        "setpoint_requests_offered_total",
        "counter",
        "Requests that came for a model, refused ones included.",
        (Sample(labels, counts.offered),),
    )
    yield Family(
        "setpoint_requests_judged_total",
        "counter",
        "Requests by what became of their deadline: in_time, late, refused, failed; invalid, cancelled: not judged.",
        by(
            "end",
            {
                "in_time": counts.in_time,
                "late": counts.late,
                "refused": sum(counts.refused.values()),
                "failed": counts.failed,
                "invalid": counts.invalid,
                "cancelled": counts.cancelled,
            },
        ),
    )
    yield Family(
        "setpoint_refusals_total",
        "counter",
        "Requests refused without their client's fault, by the limit that they met.",
        by("reason", counts.refused),
    )
    yield Family("setpoint_answers_total", "counter", "Answers by variant.", by("variant", counts.answers))
    yield Family(
        "setpoint_tenant_requests_total",
        "counter",
        "Requests of named tenants, by what became of them.",
        tuple(
            Sample({**labels, "tenant": tenant, "end": end}, getattr(line, end))
            for tenant, line in sorted(counts.tenants.items())
            for end in ("in_time", "late", "missed", "invalid", "cancelled")
        ),
    )
    yield Family(
        "setpoint_request_retries_total",
        "counter",
        "Requests given to a second worker because the first was lost or their batch failed.",
        (Sample(labels, metrics.retries),),
    )
    yield Family(
        "setpoint_worker_restarts_total", "counter", "Workers replaced, by reason.", by("reason", metrics.restarts)
    )


def _times(metrics: ModelMetrics, labels: dict[str, str]) -> Iterator[Family]:
    def stage(name: str, histogram: RollingHistogram) -> Sample:
        return Sample({**labels, "stage": name}, histogram.all_time().buckets(LATENCY_BOUNDS_NS), _NS_TO_S)

    yield Family(
        "setpoint_request_duration_seconds",
        "histogram",
        "Time of answered requests by stage: queue (waiting), run (in a worker), total (arrival to answer).",
        (stage("queue", metrics.queue_ns), stage("run", metrics.run_ns), stage("total", metrics.total_ns)),
    )
    yield Family(
        "setpoint_batch_rows",
        "histogram",
        "Rows of each batch that a worker ran.",
        (Sample(labels, metrics.batches.buckets()),),
    )
    yield Family(
        "setpoint_run_prediction_ratio",
        "histogram",
        "Observed time of a batch divided by what was predicted for it; below 1 it was quicker.",
        (Sample(labels, metrics.batches.ratio_ppm.all_time().buckets(RATIO_BOUNDS_PPM), 1e-6),),
    )


def _windows(
    metrics: ModelMetrics, labels: dict[str, str], now_ns: int, accuracies: Mapping[str, float]
) -> Iterator[Family]:
    gauges: dict[str, list[Sample]] = {"attainment": [], "goodput": [], "offered": [], "accuracy": []}
    for window_s in _WINDOWS_S:
        counts, seconds = metrics.windows.last(window_s, now_ns)
        marked = {**labels, "window": f"{window_s}s"}
        values = {
            "attainment": counts.attainment,
            "goodput": counts.in_time / seconds if seconds else None,
            "offered": counts.offered / seconds if seconds else None,
            "accuracy": counts.mean_accuracy(accuracies),
        }
        for name, value in values.items():
            if value is not None:  # nothing was asked: there is no number, and 0 or 1 would be a lie
                gauges[name].append(Sample(marked, value))

    def gauge(name: str, key: str, text: str) -> Family:
        return Family(name, "gauge", text, tuple(gauges[key]))

    yield gauge(
        "setpoint_attainment_ratio",
        "attainment",
        "Answered within the deadline, of all requests that ended and were neither invalid nor cancelled.",
    )
    yield gauge("setpoint_goodput_per_second", "goodput", "Requests answered within their deadline, per second.")
    yield gauge("setpoint_offered_per_second", "offered", "Requests that came, per second.")
    yield gauge("setpoint_accuracy_served_ratio", "accuracy", "Mean accuracy of the variants that made the answers.")
