"""`setpoint optimize` on four real models: their variants with latency, throughput, memory and accuracy with interval.

    python benchmarks/optimize/run.py                 # all four, at most 25 minutes on an idle machine
    python benchmarks/optimize/run.py minilm --budget 5m --objective "p99<=100ms, drop<=1%"

Writes `build/benchmarks/optimize/NAME.result.json` and `NAME.html`, and prints the table of each. The machine should be
idle: what is measured while others work is marked as unsteady by the page itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from models import MODELS, prepare

BUILD = Path(__file__).resolve().parents[2] / "build" / "benchmarks" / "optimize"
OBJECTIVES = {
    "magika": "p99<=50ms, drop<=1%",
    "minilm": "p99<=100ms, drop<=1%",
    "digits": "p99<=10ms, drop<=1%",
    "digits-cnn": "p99<=10ms, drop<=1%",
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Optimise four real models.")
    parser.add_argument("models", nargs="*", choices=[*MODELS, []], default=list(MODELS))
    parser.add_argument("--budget", default="6m", help="for each model")
    parser.add_argument("--objective", help="for all of them, in place of each one's own")
    arguments = parser.parse_args()
    failed = 0
    for name in arguments.models or list(MODELS):
        model, data, metric = prepare(name, BUILD)
        objective = arguments.objective or OBJECTIVES[name]
        command = [sys.executable, "-m", "setpoint", "optimize", str(model), "--name", name, "--data", str(data)]
        command += ["--objective", objective, "--metric", metric, "--budget", arguments.budget]
        command += ["--out", str(BUILD / f"{name}.result.json"), "--picture", str(BUILD / f"{name}.html")]
        if model.is_relative_to(BUILD):
            command.append("--trust")  # made here, a moment ago
        environment = {**os.environ, "SETPOINT_HOME": str(BUILD / "home")}
        print(f"== {name}   {objective}", flush=True)
        failed += subprocess.run(command, env=environment, check=False).returncode not in (0, 1)
    print_summary(arguments.models or list(MODELS))
    return 1 if failed else 0


def print_summary(names: list[str]) -> None:
    """One line for each model: the original's best rate in time, the chosen one's, and what is lost."""
    print(f"\n{'model':<12}{'original':>12}{'chosen':>12}{'times':>8}  variant, layout, loss (upper end)")
    for name in names:
        place = BUILD / f"{name}.result.json"
        if not place.exists():
            continue
        study = json.loads(place.read_text())
        original = study["entries"][0]["variant"]["name"]
        rates = [point["rate_per_s"] for point in study["points"] if point["variant"] == original]
        before, chosen = max(rates, default=0.0), study["chosen"]
        if chosen is None:
            print(f"{name:<12}{before:>12,.0f}{'none':>12}")
            continue
        times = chosen["rate_per_s"] / before if before else float("inf")
        verdict = next(e["verdict"] for e in study["entries"] if e["variant"]["name"] == chosen["variant"])
        lost = f"{verdict['loss']['value']:.2%} ({verdict['loss']['high']:.2%})" if verdict else "original"
        what = f"{chosen['variant']} {chosen['workers']}×{chosen['threads']}  {lost}"
        print(f"{name:<12}{before:>12,.0f}{chosen['rate_per_s']:>12,.0f}{times:>8.2f}  {what}")


if __name__ == "__main__":
    sys.exit(main())
