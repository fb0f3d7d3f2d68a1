"""What was counted reads back: in Prometheus's own parser, in our statistics, and in Triton's terms."""

import json
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from setpoint.core import QueueFull
from setpoint.observe import (
    CacheCounts,
    ModelMetrics,
    QueueReport,
    inference_totals,
    model_families,
    model_report,
    render,
)

S = 1_000_000_000
MS = 1_000_000
LABELS = {"model": "iris", "version": "3"}
ACCURACIES = {"fp32": 1.0, "int8": 0.98}


class Ended:
    def __init__(self, arrived_ns: int, variant: str = "fp32", tenant: str = "") -> None:
        self.arrived_ns = arrived_ns
        self.started_ns = arrived_ns + 2 * MS
        self.run_ns = 10 * MS
        self.deadline_ns = arrived_ns + 20 * MS
        self.variant = variant
        self.tenant = tenant


def busy_minute() -> ModelMetrics:
    """A request every second for 30 s: one in three by int8 and late, one more of each ten refused."""
    metrics = ModelMetrics()
    for second in range(1, 31):
        now_ns = second * S
        metrics.tick(now_ns)
        late = second % 3 == 0
        metrics.accepted += 1
        metrics.offered("a" if late else "")
        request = Ended(now_ns, "int8" if late else "fp32", "a" if late else "")
        metrics.batches.add(1, now_ns, 10 * MS, 12 * MS, MS, 10 * MS)
        metrics.answered(request, now_ns + (25 if late else 15) * MS)
        if second % 10 == 0:
            metrics.offered("")
            metrics.refused_at_door(Ended(now_ns), QueueFull("full"))
    return metrics


def scraped(metrics: ModelMetrics, now_ns: int) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(render(model_families(metrics, LABELS, now_ns, ACCURACIES)).decode()):
        for sample in family.samples:
            own = {key: value for key, value in sample.labels.items() if key not in LABELS}
            assert sample.labels.items() >= LABELS.items()
            found.setdefault(sample.name, {})[tuple(sorted(own.items()))] = sample.value
    return found


def test_what_is_counted_of_a_model_reads_back() -> None:
    metrics = ModelMetrics()
    metrics.accepted = 7
    metrics.counts.in_time = 5
    metrics.counts.cancelled = 1
    metrics.errors["internal"] = 1
    metrics.retries = 2
    metrics.restarts["died"] = 1
    metrics.batches.add(3)
    metrics.queue_ns.add(2 * MS)
    metrics.run_ns.add(10 * MS)
    metrics.total_ns.add(12 * MS)
    found = scraped(metrics, S)
    assert found["setpoint_requests_total"] == {
        (("outcome", "ok"),): 5,
        (("outcome", "cancelled"),): 1,
        (("outcome", "internal"),): 1,
    }
    assert found["setpoint_requests_accepted_total"] == {(): 7}
    assert found["setpoint_request_retries_total"] == {(): 2}
    assert found["setpoint_worker_restarts_total"] == {(("reason", "died"),): 1}
    assert found["setpoint_batch_rows_sum"] == {(): 3}
    assert found["setpoint_batch_rows_bucket"][(("le", "2"),)] == 0
    assert found["setpoint_batch_rows_bucket"][(("le", "4"),)] == 1
    for stage, seconds, le in (("queue", 0.002, "0.002"), ("run", 0.01, "0.01"), ("total", 0.012, "0.015")):
        assert found["setpoint_request_duration_seconds_sum"][(("stage", stage),)] == pytest.approx(seconds)
        assert found["setpoint_request_duration_seconds_bucket"][("le", le), ("stage", stage)] == 1


def test_how_the_objective_is_held_can_be_scraped() -> None:
    found = scraped(busy_minute(), 31 * S)
    ten, sixty = (("window", "10s"),), (("window", "60s"),)
    # The last 10 s begin behind the mark at 21 s, whose own second is in: 10 answers, those of 21, 24, 27 and 30 late.
    assert found["setpoint_attainment_ratio"][ten] == pytest.approx(6 / 11)
    assert found["setpoint_goodput_per_second"][ten] == pytest.approx(0.6)
    assert found["setpoint_offered_per_second"][ten] == pytest.approx(1.1)
    assert found["setpoint_attainment_ratio"][sixty] == pytest.approx(20 / 33)
    assert found["setpoint_accuracy_served_ratio"][sixty] == pytest.approx(1 - 0.02 / 3)
    assert found["setpoint_answers_total"] == {(("variant", "fp32"),): 20, (("variant", "int8"),): 10}
    assert found["setpoint_refusals_total"] == {(("reason", "queue_full"),): 3}
    assert found["setpoint_requests_offered_total"] == {(): 33}
    judged = {dict(labels)["end"]: count for labels, count in found["setpoint_requests_judged_total"].items()}
    assert judged == {"in_time": 20, "late": 10, "refused": 3, "failed": 0, "invalid": 0, "cancelled": 0}
    assert found["setpoint_tenant_requests_total"][("end", "late"), ("tenant", "a")] == 10
    assert found["setpoint_run_prediction_ratio_bucket"][(("le", "1.1"),)] == 0
    assert found["setpoint_run_prediction_ratio_bucket"][(("le", "1.2"),)] == 30


def test_where_nothing_was_asked_there_is_no_attainment() -> None:
    metrics = ModelMetrics()
    metrics.tick(S)
    metrics.tick(3 * S)
    found = scraped(metrics, 4 * S)
    assert "setpoint_attainment_ratio" not in found
    assert found["setpoint_goodput_per_second"] == {(("window", "10s"),): 0.0, (("window", "60s"),): 0.0}


def statistics(metrics: ModelMetrics, now_ns: int) -> Any:
    report = model_report(metrics, now_ns, QueueReport(3, 5, 1.25), ACCURACIES, "p99<=20ms")
    return json.loads(msgspec.json.encode(report))


def test_the_statistics_say_how_the_objective_was_held() -> None:
    found = statistics(busy_minute(), 31 * S)
    minute = found["last_60s"]
    assert found["objective"] == "p99<=20ms"
    assert minute["seconds"] == 30.0
    assert (minute["in_time"], minute["late"], minute["refused"]) == (20, 10, {"queue_full": 3})
    assert minute["attainment"] == pytest.approx(20 / 33, abs=1e-6)
    assert minute["mean_accuracy"] == pytest.approx(1 - 0.02 / 3, abs=1e-6)
    assert minute["variants"] == {"fp32": pytest.approx(2 / 3, abs=1e-6), "int8": pytest.approx(1 / 3, abs=1e-6)}
    tenant = {"offered": 10, "attainment": 0.0, "in_time": 0, "late": 10, "missed": 0, "invalid": 0, "cancelled": 0}
    assert minute["tenants"] == {"a": tenant}
    assert found["queue"] == {"requests": 3, "rows": 5, "oldest_ms": 1.25}
    assert found["latency_last_60s"]["run"]["p99_ms"] == pytest.approx(10, rel=0.01)
    assert found["latency_last_60s"]["total"]["max_ms"] == 25.0
    assert found["prediction_last_60s"]["batches"] == 30
    assert found["prediction_last_60s"]["mean"] == 1.2
    assert found["prediction_last_60s"]["p99"] == pytest.approx(1.2, rel=0.01)
    assert found["cache"] is None
    assert sum(times for _, times in found["total_ns_histogram"]) == 30


def test_a_new_node_has_statistics_without_numbers() -> None:
    found = statistics(ModelMetrics(), S)
    assert found["last_10s"] is None
    assert found["latency_last_60s"] == {"queue": None, "run": None, "total": None}
    assert found["prediction_last_60s"] is None
    assert found["total_ns_histogram"] == []


def test_totals_are_cumulative_and_their_parts_make_the_whole() -> None:
    metrics = busy_minute()
    totals = inference_totals(metrics)
    assert (totals.inference_count, totals.execution_count, totals.last_inference_ns) == (30, 30, 30 * S)
    assert (totals.success.count, totals.success.ns) == (30, 20 * 15 * MS + 10 * 25 * MS)
    assert (totals.fail.count, totals.queue.ns, totals.compute_infer.ns) == (3, 60 * MS, 300 * MS)
    assert totals.compute_input.ns == 30 * MS
    parts = (totals.queue, totals.compute_input, totals.compute_infer, totals.compute_output)
    assert sum(part.ns for part in parts) == totals.success.ns
    (size,) = totals.batch_sizes
    assert (size.rows, size.count, size.input_ns, size.run_ns, size.output_ns) == (1, 30, 30 * MS, 300 * MS, 30 * MS)


def test_no_total_falls_when_batches_of_another_size_come() -> None:
    """perf_analyzer subtracts what it read before, as unsigned numbers."""
    metrics = ModelMetrics()
    last = 0
    for rows, requests in ((8, 8), (1, 1), (1, 1), (4, 1), (1, 1)):
        metrics.batches.add(rows, S, 10 * MS, 12 * MS, MS, 0, requests)
        for _ in range(requests):
            metrics.answered(Ended(S), S + 15 * MS)
        totals = inference_totals(metrics)
        assert totals.compute_input.ns - last == requests * MS
        last = totals.compute_input.ns


def test_no_total_falls_when_clients_leave_before_their_answers() -> None:
    metrics = ModelMetrics()
    last = 0
    for answered in (4, 1, 0, 4):
        metrics.batches.add(4, S, 10 * MS, 12 * MS, MS, 0, 4)
        for _ in range(answered):
            metrics.answered(Ended(S), S + 15 * MS)
        totals = inference_totals(metrics)
        assert totals.compute_output.ns >= last
        last = totals.compute_output.ns
    assert last > 0


def test_what_the_cache_answered_counts_as_success_and_not_as_work() -> None:
    metrics = busy_minute()
    metrics.cache = CacheCounts()
    metrics.cache.hits, metrics.cache.hit_ns = 4, 4000
    for _ in range(4):
        metrics.reached(Ended(S), S + 1000)
    totals = inference_totals(metrics)
    assert (totals.success.count, totals.queue.count, totals.compute_infer.count) == (34, 34, 30)
    assert (totals.cache_hit.count, totals.cache_hit.ns, totals.inference_count) == (4, 4000, 30)
    parts = (totals.queue, totals.compute_input, totals.compute_infer, totals.compute_output, totals.cache_hit)
    assert sum(part.ns for part in parts) == totals.success.ns
    families = {f.name: f for f in text_string_to_metric_families(render(metrics.cache.families(LABELS)).decode())}
    results = {s.labels["result"]: s.value for s in families["setpoint_cache_requests"].samples}
    assert results == {"hit": 4, "shared_hit": 0, "coalesced": 0, "miss": 0}


def test_batches_of_a_thousand_sizes_are_counted_without_a_line_for_each() -> None:
    metrics = ModelMetrics()
    for rows in range(1, 5001):
        metrics.batches.add(rows)
    assert len(metrics.batches.sizes) < 600
    assert (metrics.batches.count, metrics.batches.rows) == (5000, 5000 * 5001 // 2)
    assert dict(metrics.batches.buckets().cumulative)[256] == 256
    assert sum(size.count for size in metrics.batches.sizes.values()) == 5000
