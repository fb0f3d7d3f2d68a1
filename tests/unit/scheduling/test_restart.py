"""Replacement of workers: at once after one that served, patiently after ones that never did."""

from setpoint.scheduling import RestartPolicy


def test_a_worker_that_had_served_is_replaced_at_once() -> None:
    assert RestartPolicy().delay_s(0) == 0.0


def test_failed_starts_wait_longer_each_time_up_to_a_limit() -> None:
    policy = RestartPolicy(first_delay_s=0.25, longest_delay_s=2.0)
    assert [policy.delay_s(n) for n in range(1, 6)] == [0.25, 0.5, 1.0, 2.0, 2.0]
    assert policy.delay_s(10_000) == 2.0
