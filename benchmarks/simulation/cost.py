"""What does the scheduler cost a node? Microseconds of CPU per request: its arrival, its share of a batch's decision
and of learning from it.

    python benchmarks/simulation/cost.py [--requests 200000]
"""

from __future__ import annotations

import argparse
import gc
import time

import numpy as np

from setpoint.plan import AffineRunTimes, SimulatedRequest, Traffic, parse_arrivals
from setpoint.scheduling import (
    ObjectivePolicy,
    ObjectiveTerms,
    Scheduler,
    Start,
    VariantTerms,
)

_STEP_NS = 50_000  # 20,000 requests/s
_LANE = ("predict", (4,))


def requests(count: int, tenants: int) -> list[SimulatedRequest]:
    kinds = [Traffic(parse_arrivals("poisson"), 1.0, f"tenant{index}", lane=_LANE) for index in range(tenants)]
    return [SimulatedRequest(0, kinds[index % tenants]) for index in range(count)]


def scheduler_us(batch: int, count: int, *, objective: bool, tenants: int = 1) -> float:
    """One worker that has always finished when the next ``batch`` requests are there."""
    rng = np.random.default_rng(0)
    profile = AffineRunTimes(0.2, 0.002, rng).profile("fp32", rng) if objective else None
    bound_ns = 20_000_000 if objective else 60_000_000_000
    terms = ObjectiveTerms((VariantTerms("fp32", 1.0, profile),), bound_ns, objective)
    scheduler: Scheduler[SimulatedRequest] = Scheduler(ObjectivePolicy(terms))
    scheduler.worker_ready(0)
    waiting = requests(count, tenants)
    now_ns, running = 0, 0
    begun = time.process_time()
    for first in range(0, count, batch):
        for request in waiting[first : first + batch]:
            now_ns += _STEP_NS
            scheduler.arrived(request, now_ns)
        if running:
            scheduler.batch_done(0, 200_000 + 2_000 * running, now_ns)
        for action in scheduler.decide(now_ns):
            if isinstance(action, Start):
                running = action.rows
    return (time.process_time() - begun) / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=200_000)
    count = parser.parse_args().requests
    gc.collect()
    gc.freeze()
    print(f"{'µs per request, batches of':<34}" + "".join(f"{batch:>8}" for batch in (1, 4, 16, 64)))
    for title, measure in (
        ("objective, profile", lambda batch: scheduler_us(batch, count, objective=True)),
        ("objective, profile, 4 tenants", lambda batch: scheduler_us(batch, count, objective=True, tenants=4)),
        ("no objective, learned", lambda batch: scheduler_us(batch, count, objective=False)),
    ):
        print(f"{title:<34}" + "".join(f"{measure(batch):>8.2f}" for batch in (1, 4, 16, 64)))


if __name__ == "__main__":
    main()
