"""What the simulator predicts, beside what the node does. README.md explains."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "overload"))

from run import SETPOINT, best_layout, measure, optimize, setpoint_environment
from workloads import WORK, WORKLOADS, Workload

WARM_UP_S = 2.0
"""As ``setpoint_load`` sends it."""
SHARES = (0.3, 0.6, 0.9, 1.3, 2.0)


def simulated(
    workload: Workload, variant: str, layout: tuple[int, int], rates: list[float], overhead_us: int, request_us: float
) -> list[dict[str, Any]]:
    """Attainment and p99 at each rate, in simulated time."""
    workers, threads = map(str, layout)
    command = [SETPOINT, "simulate", "--model", workload.name, "--workers", workers, "--threads", threads]
    command += ["--objective", objective_of(workload, variant), "--json", "--for", "60s"]
    command += ["--rate", ",".join(f"{rate:.1f}" for rate in rates), "--overhead", f"{overhead_us}us"]
    command += ["--request-cost", f"{max(request_us, 0.1):.1f}us"]
    if variant:
        command += ["--variant", variant]
    done = subprocess.run(command, env=setpoint_environment(), capture_output=True, text=True, check=False)
    if not done.stdout:
        raise SystemExit(done.stderr)
    return [each["outcome"] for each in json.loads(done.stdout)]


def objective_of(workload: Workload, variant: str) -> str:
    """As ``command_of`` states it to the node."""
    return f"p99<={workload.bound_ms}ms" + ("" if variant else f", drop<={workload.drop_percent}%")


def request_us(record: dict[str, Any]) -> float:
    """Processor time of node and generator together for a request, of a run."""
    (run,) = record["runs"]
    generator_s = run["generator"]["share_of_core"] * run["offered"] / run["offered_per_s"]
    # The node's time is of the whole run with its warm-up; the generator's is of what was measured.
    sent = run["offered"] + WARM_UP_S * run["offered_per_s"]
    return 1e6 * (record["server_cpu_s"] / sent + generator_s / run["offered"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workload", default="minilm", choices=WORKLOADS)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--variant", default="fp32", help="answer with this one only; empty for all")
    parser.add_argument("--budget", default="0", help="for setpoint optimize; 0 takes what was made before")
    parser.add_argument("--overhead-us", type=int, default=500, help="around each batch's run, simulated")
    parser.add_argument("--layout", help="workers and threads, as 2x1; else the best by the profiles")
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    workload = WORKLOADS[arguments.workload]()
    if arguments.budget != "0":
        optimize(workload, arguments.budget)
    workers, threads, held = best_layout(workload, arguments.variant or "fp32")
    if arguments.layout:
        workers, threads = map(int, arguments.layout.split("x"))
    rates = [share * held for share in SHARES]
    server = "setpoint" if arguments.variant else "setpoint-variants"
    serving = ("--workers", str(workers), "--threads", str(threads))
    records = [measure(server, workload, rate, arguments.seconds, arguments.variant, serving=serving) for rate in rates]
    # Of the highest load: there the cost of a request matters most, and is least mixed with that of idling.
    cost_us = request_us(records[-1])
    print(f"{workload.name}, p99 <= {workload.bound_ms} ms; by its profile the original holds {held:.0f} rows/s")
    print(f"{workers} workers x {threads} threads; node and generator took {cost_us:.0f} us of a core for a request\n")
    print("| load | rows/s | attained, simulated | measured | difference | p99 ms, simulated | measured | difference |")
    print("|---|---|---|---|---|---|---|---|")
    outcomes = simulated(workload, arguments.variant, (workers, threads), rates, arguments.overhead_us, cost_us)
    for share, rate, outcome, record in zip(SHARES, rates, outcomes, records, strict=True):
        (run,) = record["runs"]
        p99_ms = run["latency"]["p99_ms"]
        print(
            f"| {share:g} | {rate:.0f} | {outcome['attainment']:.3f} | {run['attainment']:.3f} "
            f"| {run['attainment'] - outcome['attainment']:+.3f} | {outcome['p99_ms']:.1f} | {p99_ms:.1f} "
            f"| {p99_ms / outcome['p99_ms'] - 1:+.0%} |{' void' if run['void'] else ''}"
        )


if __name__ == "__main__":
    main()
