"""Does a tenant at ten times its share hurt one that stays within its own? README.md explains."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "overload"))

from run import FIRST, SETPOINT, best_layout, command_of, optimize
from workloads import WORK, WORKLOADS, Workload

from process import ServerProcess, free_ports  # isort: skip

QUIET = 0.3
NOISY = (0.5, 5.0)


def begin_load(url: str, workload: Workload, tenant: str, rate: float, seconds: float) -> subprocess.Popen[str]:
    """A load generator of its own for one tenant."""
    command = [*FIRST, SETPOINT, "load", url, "--data", str(workload.bodies("v2")), "--json"]
    command += ["-H", f"setpoint-tenant:{tenant}", "--rate", f"{rate:.1f}", "--for", f"{seconds}s"]
    command += ["--deadline", f"{workload.bound_ms}ms", "--warm-up", "2s"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result_of(process: subprocess.Popen[str]) -> Any:
    output, errors = process.communicate(timeout=120)
    if not output.strip():
        raise SystemExit(errors)
    return json.loads(output)["runs"][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workload", default="minilm", choices=WORKLOADS)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--held", type=float, help="rows/s that the model holds; else by its profiles, less a fifth")
    parser.add_argument("--budget", default="0", help="for setpoint optimize; 0 takes what was made before")
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    workload = WORKLOADS[arguments.workload]()
    if arguments.budget != "0":
        optimize(workload, arguments.budget)
    held = arguments.held or 0.8 * best_layout(workload, "fp32")[2]
    (port,) = free_ports(1)
    command, environment = command_of("setpoint", workload, port)
    url = f"http://127.0.0.1:{port}/v2/models/{workload.name}"
    print("| noisy asks for | quiet: attained | p50 / p99 ms | noisy: attained | refused | told |\n|" + "---|" * 6)
    with ServerProcess(command, environment, WORK / "run", WORK / "tenants.log"):
        time.sleep(5)
        for _ in range(arguments.rounds):
            for noisy in NOISY:
                quiet_load = begin_load(url, workload, "quiet", QUIET * held, arguments.seconds)
                noisy_load = begin_load(url, workload, "noisy", noisy * held, arguments.seconds)
                quiet, loud = result_of(quiet_load), result_of(noisy_load)
                latency = quiet["latency"]
                print(
                    f"| {noisy / 0.5:g} times its share | {quiet['attainment']:.3f} "
                    f"| {latency['p50_ms']:.1f} / {latency['p99_ms']:.1f} | {loud['attainment']:.3f} "
                    f"| {loud['refused'] / loud['offered']:.0%} | {loud['statuses']} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
