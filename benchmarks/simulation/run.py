"""Which policy holds an objective of 60 ms under load? The scheduler that serves, simulated, beside what servers do.

Two workers (or ``--workers``), laws of a CPU (run time grows with rows) and of an accelerator (it hardly does), 6 %
noise and 1 % stragglers, Poisson and bursty arrivals. Load is relative to what the most accurate variant can hold:
workers · b / l(b) for the largest b with (1 + 1/workers) · l(b) within the objective. Every policy sees the same
arrivals; figures are means over the seeds, with the standard deviation of attainment between them in the JSON.

    python benchmarks/simulation/run.py [--seeds 5] [--seconds 30] [--json FILE] [--speed]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np

from setpoint.plan import (
    AffineRunTimes,
    AimdPolicy,
    CorkPolicy,
    EagerPolicy,
    Fleet,
    Outcome,
    SimulatedRequest,
    Traffic,
    parse_arrivals,
    simulate,
    unbatched,
    window,
)
from setpoint.scheduling import ObjectivePolicy, ObjectiveTerms, Policy, Scheduler, VariantTerms

BOUND_NS = 60_000_000
FLOOR = 0.75
LOADS = (0.3, 0.7, 1.0, 1.5, 3.0)
MOST_ROWS = 64
ACCURACIES = {"fp32": 0.80, "int8": 0.79, "small": 0.75}
LAWS_MS = {
    "cpu": {"fp32": (2.0, 8.0), "int8": (1.5, 3.2), "small": (1.0, 1.2)},
    "accelerator": {"fp32": (9.0, 1.0), "int8": (6.0, 0.6), "small": (4.0, 0.3)},
}
ARRIVALS = ("poisson", "burst")
Maker = Callable[[str, int], Policy[SimulatedRequest]]


def best_batch(law: tuple[float, float], workers: int) -> int:
    base_ms, each_ms = law
    within = (BOUND_NS / 1e6 / (1 + 1 / workers) - base_ms) / each_ms
    return max(1, min(MOST_ROWS, int(within)))


def capacity_per_s(law: tuple[float, float], workers: int) -> float:
    rows = best_batch(law, workers)
    return workers * rows / (law[0] + law[1] * rows) * 1e3


def terms_of(hardware: str, names: tuple[str, ...]) -> ObjectiveTerms:
    variants = []
    for name in names:
        rng = np.random.default_rng(7)
        profile = AffineRunTimes(*LAWS_MS[hardware][name], rng).profile(name, rng)
        variants.append(VariantTerms(name, ACCURACIES[name], profile))
    return ObjectiveTerms(tuple(variants), BOUND_NS, batch_limit_rows=MOST_ROWS)


def eager(hardware: str, target_rows: int) -> Policy[SimulatedRequest]:
    profile = terms_of(hardware, ("fp32",)).variants[0].profile
    assert profile is not None
    return EagerPolicy(profile, BOUND_NS, MOST_ROWS, 1.15, target_rows)


def aimd(hardware: str, workers: int) -> Policy[SimulatedRequest]:
    return AimdPolicy(BOUND_NS, MOST_ROWS, BOUND_NS // 2)


def ours(*names: str) -> Maker:
    return lambda hardware, workers: ObjectivePolicy(terms_of(hardware, names))


POLICIES: dict[str, tuple[Maker, tuple[str, ...]]] = {
    "no batching": (lambda hardware, workers: unbatched(BOUND_NS), ("fp32",)),
    "window 8, 5 ms": (lambda hardware, workers: window(8, 5, BOUND_NS), ("fp32",)),
    "window 16, 15 ms": (lambda hardware, workers: window(16, 15, BOUND_NS), ("fp32",)),
    "window tuned": (
        lambda hardware, workers: window(best_batch(LAWS_MS[hardware]["fp32"], workers), 2, BOUND_NS),
        ("fp32",),
    ),
    "AIMD, 30 ms": (aimd, ("fp32",)),
    "BentoML's rule": (lambda hardware, workers: CorkPolicy(BOUND_NS, MOST_ROWS), ("fp32",)),
    "EDF, drop hopeless": (lambda hardware, workers: eager(hardware, 1), ("fp32",)),
    "EDF, target batch": (
        lambda hardware, workers: eager(hardware, best_batch(LAWS_MS[hardware]["fp32"], workers)),
        ("fp32",),
    ),
    "ours, one variant": (ours("fp32"), ("fp32",)),
    "ours, three variants": (ours("fp32", "int8", "small"), ("fp32", "int8", "small")),
}


def run_one(policy: str, hardware: str, arrivals: str, load: float, seed: int, workers: int, seconds: float) -> Outcome:
    maker, names = POLICIES[policy]
    rng = np.random.default_rng(1000 + seed)
    laws = LAWS_MS[hardware]
    fleet = Fleet(
        workers,
        names,
        tuple(ACCURACIES[name] for name in names),
        tuple(AffineRunTimes(*laws[name], rng) for name in names),
    )
    traffic = Traffic(parse_arrivals(arrivals), load * capacity_per_s(laws["fp32"], workers))
    return simulate(
        Scheduler(maker(hardware, workers)), fleet, [traffic], bound_ns=BOUND_NS, duration_s=seconds, seed=seed
    )


class Row(msgspec.Struct, frozen=True):
    policy: str
    hardware: str
    arrivals: str
    load: float
    offered_per_s: float
    attainment: float
    attainment_spread: float
    goodput_per_s: float
    mean_accuracy: float
    p50_ms: float
    p99_ms: float
    refusal_p99_ms: float
    mean_batch_rows: float


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    for hardware in arguments.hardware:
        for arrivals in arguments.arrivals:
            for policy in arguments.policies or POLICIES:
                for load in arguments.loads:
                    outcomes = [
                        run_one(policy, hardware, arrivals, load, seed, arguments.workers, arguments.seconds)
                        for seed in range(arguments.seeds)
                    ]

                    def mean(field: str, outcomes: list[Outcome] = outcomes) -> float:
                        return statistics.fmean(getattr(outcome, field) for outcome in outcomes)

                    yield Row(
                        policy,
                        hardware,
                        arrivals,
                        load,
                        load * capacity_per_s(LAWS_MS[hardware]["fp32"], arguments.workers),
                        mean("attainment"),
                        statistics.pstdev(outcome.attainment for outcome in outcomes),
                        mean("goodput_per_s"),
                        mean("mean_accuracy"),
                        mean("p50_ms"),
                        mean("p99_ms"),
                        mean("refusal_p99_ms"),
                        mean("mean_batch_rows"),
                    )


def show(found: list[Row], loads: list[float]) -> None:
    for hardware, arrivals in dict.fromkeys((row.hardware, row.arrivals) for row in found):
        block = [row for row in found if (row.hardware, row.arrivals) == (hardware, arrivals)]
        for title, text in (
            ("attainment", lambda row: f"{row.attainment:.3f}"),
            ("goodput/s", lambda row: f"{row.goodput_per_s:.0f}"),
            ("p50/p99 ms of answers", lambda row: f"{row.p50_ms:.0f}/{row.p99_ms:.0f}"),
            ("mean accuracy of answers", lambda row: f"{row.mean_accuracy:.4f}"),
            ("p99 ms until refused", lambda row: f"{row.refusal_p99_ms:.1f}"),
        ):
            policies = list(dict.fromkeys(row.policy for row in block))
            if title == "mean accuracy of answers":
                policies = [policy for policy in policies if len(POLICIES[policy][1]) > 1]
            if not policies:
                continue
            print(f"\n{hardware}, {arrivals}: {title}, by load")
            print(f"{'':<22}" + "".join(f"{load:>9g}" for load in loads))
            for policy in policies:
                cells = {row.load: text(row) for row in block if row.policy == policy}
                print(f"{policy:<22}" + "".join(f"{cells[load]:>9}" for load in loads))


def speed(workers: int) -> None:
    """How fast the simulator is, on one core, for planning."""
    for policy, load in (("ours, one variant", 0.7), ("ours, three variants", 0.7), ("ours, three variants", 3.0)):
        begun = time.process_time()
        outcome = run_one(policy, "cpu", "poisson", load, 0, workers, 600.0)
        taken = time.process_time() - begun
        print(
            f"{policy} at {load:g}: {outcome.offered / taken:,.0f} requests/s, {outcome.events / taken:,.0f} events/s; "
            f"{600 / taken:,.0f} times real time"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--loads", type=float, nargs="+", default=list(LOADS))
    parser.add_argument("--hardware", nargs="+", default=list(LAWS_MS), choices=list(LAWS_MS))
    parser.add_argument("--arrivals", nargs="+", default=list(ARRIVALS))
    parser.add_argument("--policies", nargs="+", default=None, choices=list(POLICIES))
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--speed", action="store_true", help="only say how fast the simulator is")
    arguments = parser.parse_args()
    if arguments.speed:
        speed(arguments.workers)
        return 0
    begun = time.process_time()
    found = list(rows(arguments))
    show(found, arguments.loads)
    cpu_s = time.process_time() - begun
    print(f"\n{len(found) * arguments.seeds} runs of {arguments.seconds:g} s in {cpu_s:.0f} s of CPU")
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
