"""What a running node knows of holding its objective, by its metrics and by its statistics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from harness import RunningNode, until

SLEEPER = '''
import time

import setpoint as sp


class Sleeper(sp.Model):
    """Sleeps for as long as it is told."""

    @sp.endpoint
    def sleep(self, ms: float) -> float:
        if ms < 0:
            raise ValueError("time does not go backwards")
        time.sleep(ms / 1000)
        return ms
'''


@pytest.fixture
def node(pack: Callable[..., str], serve: Callable[..., RunningNode]) -> RunningNode:
    return serve(pack(SLEEPER, "sleeper"), options=["--objective", "p99<=3s"])


def sleep(node: RunningNode, ms: float, **headers: str) -> int:
    named = {f"setpoint-{name.replace('_', '-')}": value for name, value in headers.items()}
    return node.ask("POST", "/models/sleeper/sleep", {"ms": ms}, headers=named).status


def asked(node: RunningNode) -> None:
    """Three in time, one late, one refused, one failed; two of them of a tenant."""
    assert [sleep(node, 0), sleep(node, 0, tenant="a"), sleep(node, 0)] == [200] * 3
    assert sleep(node, 800, tenant="a", timeout_ms="600") == 200, "what was begun in time is answered, though late"
    assert sleep(node, -1) == 500
    assert node.ask("POST", "/models/sleeper/sleep", {"ms": "x"}).status == 400


def test_metrics_say_how_the_objective_is_held(node: RunningNode) -> None:
    begin_s = time.monotonic()
    asked(node)
    judged = {dict(labels)["end"]: n for labels, n in node.metrics()["setpoint_requests_judged_total"].items()}
    assert judged == {"in_time": 3, "late": 1, "refused": 0, "failed": 1, "invalid": 1, "cancelled": 0}
    # The minute's window begins with the node; that of 10 s holds the same only as long as no more have passed.
    assert node.metric("setpoint_attainment_ratio", window="60s") == pytest.approx(3 / 5)
    if time.monotonic() - begin_s < 8:
        assert node.metric("setpoint_attainment_ratio", window="10s") == pytest.approx(3 / 5)
    assert (
        0
        < node.metric("setpoint_goodput_per_second", window="60s")
        < node.metric("setpoint_offered_per_second", window="60s")
    )
    assert node.metric("setpoint_accuracy_served_ratio", window="60s") == 1.0
    (variant,) = node.metrics()["setpoint_answers_total"].items()
    assert variant[1] == 4
    assert node.metric("setpoint_tenant_requests_total", tenant="a", end="in_time") == 1
    assert node.metric("setpoint_tenant_requests_total", tenant="a", end="late") == 1
    assert node.metric("setpoint_request_duration_seconds_count", stage="total") == 4
    late = node.metric("setpoint_request_duration_seconds_bucket", stage="total", le="0.75")
    assert late == 3
    assert node.metric("setpoint_batch_rows_count") >= 4


def test_the_event_loops_lag_is_measured_all_the_time(node: RunningNode) -> None:
    beats = node.metric("setpoint_event_loop_lag_seconds_count")
    until(lambda: node.metric("setpoint_event_loop_lag_seconds_count") >= beats + 10)


def test_the_age_of_the_queue_grows_while_nobody_is_served(node: RunningNode) -> None:
    assert node.metric("setpoint_queue_age_seconds") == 0
    asking = [threading.Thread(target=sleep, args=(node, 700)) for _ in range(2)]
    for thread in asking:
        thread.start()
    until(lambda: node.metric("setpoint_queue_age_seconds") > 0.2)
    for thread in asking:
        thread.join()
    until(lambda: node.metric("setpoint_queue_age_seconds") == 0)


def test_refusals_are_counted_by_their_limit(pack: Callable[..., str], serve: Callable[..., RunningNode]) -> None:
    node = serve(pack(SLEEPER, "sleeper"), options=["--objective", "p99<=10s"], limits={"queue_limit_rows": 1})
    answers = node.call_all("sleeper/sleep", [{"ms": 300}] * 8)
    refused = sum(answer.status == 503 for answer in answers)
    assert refused >= 1
    assert node.metric("setpoint_refusals_total") == refused
    assert node.metric("setpoint_requests_offered_total") == 8
    assert node.metric("setpoint_requests_accepted_total") == 8 - refused


def test_statistics_say_the_same(node: RunningNode) -> None:
    asked(node)
    (entry,) = node.ask("GET", "/v2/models/sleeper/stats").json["model_stats"]
    assert entry["inference_stats"]["success"]["count"] == 4
    assert entry["inference_stats"]["fail"]["count"] == 2
    ours = entry["setpoint"]
    assert ours["objective"] == "p99<=3s"
    minute = ours["last_60s"]
    assert minute["attainment"] == 0.6
    assert (minute["in_time"], minute["late"], minute["failed"], minute["invalid"]) == (3, 1, 1, 1)
    assert sum(minute["variants"].values()) == 1.0
    assert minute["tenants"]["a"]["late"] == 1
    assert ours["queue"] == {"requests": 0, "rows": 0, "oldest_ms": 0.0}
    assert ours["latency_last_60s"]["total"]["max_ms"] >= 800
    assert ours["latency_last_60s"]["run"]["count"] == 4
    assert ours["event_loop_lag_last_60s"]["count"] >= 1
    assert ours["cache"] is None
    assert sum(times for _, times in ours["total_ns_histogram"]) == 4
