"""What the simulator predicts, beside what the node does. README.md explains."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "overload"))

from run import SETPOINT, measure, optimize, setpoint_environment
from workloads import WORK, WORKLOADS, Workload

SHARES = (0.3, 0.6, 0.9, 1.3, 2.0)


def simulated(workload: Workload, variant: str, rates: list[float], overhead_us: int) -> list[dict[str, Any]]:
    """Attainment and p99 at each rate, in simulated time."""
    command = [SETPOINT, "simulate", "--model", workload.name, "--workers", "2", "--threads", "1", "--for", "60s"]
    command += ["--objective", f"p99<={workload.bound_ms}ms, drop<={workload.drop_percent}%", "--json"]
    command += ["--rate", ",".join(f"{rate:.1f}" for rate in rates), "--overhead", f"{overhead_us}us"]
    if variant:
        command += ["--variant", variant]
    done = subprocess.run(command, env=setpoint_environment(), capture_output=True, text=True, check=False)
    if not done.stdout:
        raise SystemExit(done.stderr)
    return [each["outcome"] for each in json.loads(done.stdout)]


def held_rows_per_s(workload: Workload) -> float:
    """What two single-threaded workers do with the original, by its profile."""
    command = [SETPOINT, "inspect", workload.name, "--json"]
    done = subprocess.run(command, env=setpoint_environment(), capture_output=True, text=True, check=True)
    profiles = json.loads(done.stdout)["manifest"]["profiles"]
    points = next(each["latency"] for each in profiles if (each["variant"], each["threads"]) == ("fp32", 1))
    fitting = [point for point in points if 1.5 * point["p99_ms"] <= workload.bound_ms]
    return max(2e3 * point["rows"] / point["p50_ms"] for point in fitting)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workload", default="minilm", choices=WORKLOADS)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--variant", default="fp32", help="answer with this one only; empty for all")
    parser.add_argument("--budget", default="0", help="for setpoint optimize; 0 takes what was made before")
    parser.add_argument("--overhead-us", type=int, default=1000, help="around each batch's run, simulated")
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    workload = WORKLOADS[arguments.workload]()
    if arguments.budget != "0":
        optimize(workload, arguments.budget)
    held = held_rows_per_s(workload)
    rates = [share * held for share in SHARES]
    server = "setpoint" if arguments.variant else "setpoint-variants"
    print(f"{workload.name}, p99 <= {workload.bound_ms} ms; by its profile the original holds {held:.0f} rows/s\n")
    print("| load | rows/s | attained, simulated | measured | difference | p99 ms, simulated | measured | difference |")
    print("|---|---|---|---|---|---|---|---|")
    for share, rate, outcome in zip(
        SHARES, rates, simulated(workload, arguments.variant, rates, arguments.overhead_us), strict=True
    ):
        (run,) = measure(server, workload, rate, arguments.seconds, arguments.variant)["runs"]
        p99_ms = run["latency"]["p99_ms"]
        print(
            f"| {share:g} | {rate:.0f} | {outcome['attainment']:.3f} | {run['attainment']:.3f} "
            f"| {run['attainment'] - outcome['attainment']:+.3f} | {outcome['p99_ms']:.1f} | {p99_ms:.1f} "
            f"| {p99_ms / outcome['p99_ms'] - 1:+.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
