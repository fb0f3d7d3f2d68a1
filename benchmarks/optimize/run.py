"""`setpoint optimize` on four real models: their variants with latency, throughput, memory and accuracy with interval.

    python benchmarks/optimize/run.py --again --write-docs        # all four: README.md says how long
    python benchmarks/optimize/run.py minilm --budget 5m --objective "p99<=100ms, drop<=1%"

What was found for a model lies in `build/benchmarks/optimize/NAME.result.json` (and `.html`) and is kept: a run that
was interrupted goes on where it was. `--again` measures everything anew. The machine should be idle.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harness import Harness
from models import MODELS, agreement_rows, prepare
from shared import BUILD, OBJECTIVES, SETPOINT, busy_note, busy_now, environment, result_file, say, study_of, write_docs
from tables import loss_text, model_table, reached, summary

BUDGETS = {"magika": "150s", "minilm": "240s", "digits": "60s", "digits-cnn": "90s"}


def main() -> int:
    parser = argparse.ArgumentParser(description="Optimise four real models.")
    parser.add_argument("models", nargs="*", choices=[*MODELS, []], default=[])
    parser.add_argument("--budget", help="for each model; by default " + ", ".join(map(" ".join, BUDGETS.items())))
    parser.add_argument("--objective", help="for all of them, in place of each one's own")
    parser.add_argument("--again", action="store_true", help="also what was measured before")
    parser.add_argument("--allow", choices=["train"], help="also makers that train")
    parser.add_argument("--report", action="store_true", help="run nothing; only tell what was found before")
    parser.add_argument("--write-docs", action="store_true")
    arguments = parser.parse_args()
    names = arguments.models or list(MODELS)
    if arguments.again and not arguments.report:
        for name in names:
            result_file(name).unlink(missing_ok=True)
    start_s, failed = time.monotonic(), 0
    for name in names if not arguments.report else []:
        before_s = busy_now()
        failed += not optimize(name, arguments)
        say(f"{name}: {time.monotonic() - start_s:.0f} s since the start; {busy_note(before_s)}")
    text = report([name for name in names if result_file(name).exists()])
    print(text)
    if arguments.write_docs:
        write_docs("variants", text)
    return 1 if failed else 0


def optimize(name: str, arguments: argparse.Namespace) -> bool:
    """Optimise one model, unless the same was done before; whether there is a result."""
    model, data, metric = prepare(name, BUILD)
    objective = arguments.objective or OBJECTIVES[name]
    asked = ["--objective", objective, "--metric", metric, "--budget", arguments.budget or BUDGETS[name]]
    asked += ["--allow", arguments.allow] if arguments.allow else []
    note = BUILD / f"{name}.asked.json"
    if result_file(name).exists() and note.exists() and json.loads(note.read_text()) == asked:
        say(f"== {name}: kept what was found before; --again measures it again")
        return True
    command = [*SETPOINT, "optimize", str(model), "--name", name, "--data", str(data), *asked]
    command += ["--out", str(result_file(name)), "--picture", str(BUILD / f"{name}.html")]
    if arguments.again:
        command.append("--fresh")
    if model.is_relative_to(BUILD):
        command.append("--trust")  # made here, a moment ago
    say(f"== {name}   {' '.join(asked)}")
    result_file(name).unlink(missing_ok=True)
    done = subprocess.run(command, env=environment(), stdout=subprocess.DEVNULL)
    if done.returncode not in (0, 1) or not result_file(name).exists():
        say(f"{name}: setpoint optimize ended with {done.returncode}")
        return False
    note.write_text(json.dumps(asked))
    if rows := agreement_rows(name, BUILD):
        add_agreement(name, rows, asked)
    return True


def add_agreement(name: str, rows: Path, asked: list[str]) -> None:
    """Beside the labels' verdict, the kept variants' likeness to the original's own answers, without labels."""
    study = study_of(name)
    harness = Harness(study["stored"], rows)
    found = harness.judge([entry["variant"]["name"] for entry in study["entries"] if not entry["dropped"]], "cosine")
    study["agreement"] = found
    result_file(name).write_text(json.dumps(study, indent=2))


def report(names: list[str]) -> str:
    """Everything as Markdown."""
    studies: dict[str, Any] = {name: study_of(name) for name in names}
    parts = [summary(studies)]
    for name, study in studies.items():
        parts.append(model_table(name, study))
        if agreement := study.get("agreement"):
            told = "; ".join(f"{variant} loses {loss_text(verdict)}" for variant, verdict in agreement.items())
            parts.append(f"Likeness of the kept variants' vectors to the original's, without labels: {told}.")
        if name == "minilm":
            parts.append(reached(study))
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
