"""Olive, NNCF's accuracy control and OpenVINO's own benchmark on the same models, beside ours.

    python benchmarks/optimize/rivals.py --write-docs             # after run.py; README.md says how long

Each tool has an environment of its own under `build/venvs/optimize-NAME`, filled from `requirements/NAME.txt` the first
time (two or three minutes, 2.1 GB; torch comes as its CPU build where pip finds one). What Olive and NNCF make is
adopted by `harness.py`: judged on the same rows and measured in the same worker process, in turns with the original
and with what `setpoint optimize` chose. OpenVINO's `benchmark_app` runs the original in its own way; its figures are
its own, printed beside ours of the same engine. Results are kept in `build/benchmarks/optimize/rivals.json`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from harness import Found, Harness
from models import nearest_is_of_the_same_module, prepare
from shared import BUILD, REPOSITORY, busy_note, busy_now, result_file, say, study_of, table, write_docs
from tables import loss_text

from setpoint.core import Objective
from setpoint.optimize.makers import Made

HERE = Path(__file__).resolve().parent
VENVS = REPOSITORY / "build" / "venvs"
KEPT = BUILD / "rivals.json"
MODELS = ("minilm", "digits-cnn")
TRANSFORMER = {"minilm": ("12", "384")}
STEP_LIMIT_S = 600.0
MILLISECONDS = {"us": 1e-3, "s": 1e3}
APP_SECONDS = 5
APP_BATCHES = {"minilm": (1, 16), "digits-cnn": (1, 32)}
HEAD = (
    *("made by", "variant", "w × t", "1 row p50 / p99 ms", "best batch", "rows/s", "times fp32", "held/s"),
    *("loss (95 %)", "within 1 %", "making took, or why it was not measured"),
)


class Failed(Exception):
    """A tool did not do it; the text is its row in the table."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", choices=[*MODELS, []], default=[])
    parser.add_argument("--budget", type=float, default=90.0, help="seconds of measuring for each model")
    parser.add_argument("--iterations", type=int, default=5, help="layers that NNCF may give back at most")
    parser.add_argument("--rows", type=int, default=1 << 30, help="judge with this many at most; all is right")
    parser.add_argument("--setup", action="store_true", help="only make the environments")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--write-docs", action="store_true")
    arguments = parser.parse_args()
    missing = {name: problem for name in ("nncf", "olive") if (problem := ensure_environment(name))}
    if arguments.setup:
        print(missing or "both environments are there")
        return 1 if missing else 0
    kept: dict[str, Any] = {} if arguments.again or not KEPT.exists() else json.loads(KEPT.read_text())
    for name in arguments.models or list(MODELS):
        if not result_file(name).exists():
            say(f"{name}: not optimised yet")
        elif name not in kept or kept[name]["digest"] != study_of(name)["digest"]:
            kept[name] = compare(name, missing, arguments)
            KEPT.write_text(json.dumps(kept, indent=1))
    text = report(kept)
    print(text)
    if arguments.write_docs:
        write_docs("rivals", text)
    return 0


# --- environments and steps -------------------------------------------------------------------------------------------


def python_of(name: str) -> str:
    """Of a tool's environment."""
    return str(VENVS / f"optimize-{name}" / "bin" / "python")


def ensure_environment(name: str) -> str:
    """Make or refresh a tool's environment when its requirements changed; why it could not be, or nothing."""
    folder, requirements = VENVS / f"optimize-{name}", HERE / "requirements" / f"{name}.txt"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    stamp = folder / ".requirements"
    if stamp.exists() and stamp.read_text() == wanted:
        return ""
    say(f"making {folder.relative_to(REPOSITORY)}")
    shutil.rmtree(folder, ignore_errors=True)
    # pip and not uv: pip may be told where a CPU build of torch lies, and uv would fetch one for accelerators.
    install = [python_of(name), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    try:
        run_step(f"venv-{name}", [sys.executable, "-m", "venv", str(folder)])
        run_step(f"install-{name}", [*install, "-r", str(requirements)])
    except Failed as error:
        return str(error)
    stamp.write_text(wanted)
    return ""


def run_step(name: str, command: list[str]) -> str:
    """Run a command; its standard output. Both outputs go to a log as well.

    Raises:
        Failed: with the last line that it said.
    """
    log = BUILD / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    quiet = {"OLIVE_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1", "NNCF_CI": "1"}
    environment = {**os.environ, **quiet}
    environment.pop("PYTHONPATH", None)
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=BUILD, timeout=STEP_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{name}: {str(error)[-150:]}") from error
    log.write_text(f"$ {' '.join(command)}\n{done.stdout}\n{done.stderr}")
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise Failed(f"{name}: {lines[-1][:150] if lines else 'no output'}")
    return done.stdout


# --- one model --------------------------------------------------------------------------------------------------------


def compare(name: str, missing: dict[str, str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Make with every tool, judge and measure all alike, and ask OpenVINO's own benchmark."""
    study = study_of(name)
    source, data, _ = prepare(name, BUILD)
    harness = Harness(study["stored"], data, arguments.rows)
    folder = BUILD / "rivals" / name
    if arguments.again:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    calibration, judged, model = folder / "calibration.npz", folder / "judged.npz", folder / "original.onnx"
    harness.write_calibration(calibration)
    harness.write_judged(judged)
    shutil.copyfile(source, model)
    before_s = busy_now()
    metric = "nearest" if name == "minilm" else "accuracy"
    note, recipe = folder / "made.json", f"{study['digest']} {arguments.iterations} {sorted(missing)}"
    if note.exists() and (before := json.loads(note.read_text()))["recipe"] == recipe:
        made, took, problems = (
            [Made(**(each | {"artifact": Path(each["artifact"])})) for each in before["made"]],
            before["took"],
            before["problems"],
        )
    else:
        made, took, problems = make_all(name, model, calibration, judged, folder, metric, missing, arguments.iterations)
        paths = [msgspec.structs.asdict(each) | {"artifact": str(each.artifact)} for each in made]
        note.write_text(json.dumps({"recipe": recipe, "made": paths, "took": took, "problems": problems}))
    chosen = study["chosen"]
    ours = dict.fromkeys([*([chosen["variant"]] if chosen else []), "openvino-fp32", "openvino-bf16", "int8-static"])
    available = {variant.name for variant in harness.manifest.variants} - {"fp32"}
    for engine_precision in sorted({"openvino-fp32", "openvino-bf16"} - available):
        precision = engine_precision.removeprefix("openvino-")
        file = copied(model, f"{engine_precision}.onnx")
        made.append(Made(engine_precision, precision, file, "openvino", precision, "ours"))
    function = nearest_is_of_the_same_module if metric == "nearest" else "accuracy"
    found = harness.compare(
        [variant for variant in ours if variant in available],
        made,
        function,
        Objective.parse(study["objective"]),
        arguments.budget,
    )
    return {
        "digest": study["digest"],
        "objective": study["objective"],
        "chosen": chosen["variant"] if chosen else "",
        "found": msgspec.to_builtins(found),
        "took": took,
        "problems": problems | missing,
        "app": {
            f"{precision} batch {rows}": benchmark_app(name, model, rows, precision, missing)
            for precision in ("f32", "bf16")
            for rows in APP_BATCHES[name]
        },
        "busy": busy_note(before_s),
    }


def copied(file: Path, name: str) -> Path:
    """A twin under another name: variants are files, and two of them may not be one."""
    twin = file.with_name(name)
    shutil.copyfile(file, twin)
    return twin


def make_all(
    name: str,
    model: Path,
    calibration: Path,
    judged: Path,
    folder: Path,
    metric: str,
    missing: dict[str, str],
    iterations: int,
) -> tuple[list[Made], dict[str, float], dict[str, str]]:
    """What the tools make of the model, the seconds that it took them, and what went wrong."""
    made: list[Made] = []
    took: dict[str, float] = {}
    problems: dict[str, str] = {}
    if "nncf" not in missing:
        say(f"{name}: NNCF")
        out = folder / "nncf.onnx"
        script = [python_of("nncf"), str(HERE / "rivals" / "nncf_control.py"), str(model), str(calibration)]
        try:
            told = run_step(f"nncf-{name}", [*script, str(judged), metric, str(out), "--iterations", str(iterations)])
            took["nncf"] = json.loads(told.splitlines()[-1])["seconds"]
            made.append(Made("nncf", "int8", out, note="NNCF, quantize_with_accuracy_control"))
            twin = copied(out, "nncf-on-openvino.onnx")
            made.append(Made("nncf-on-openvino", "int8", twin, "openvino", "fp32", "the same on OpenVINO"))
        except Failed as error:
            problems["nncf"] = str(error)
    if "olive" not in missing:
        say(f"{name}: Olive")
        script = [python_of("olive"), str(HERE / "rivals" / "olive_passes.py"), str(model), str(calibration)]
        heads = ["--transformer", *TRANSFORMER[name]] if name in TRANSFORMER else []
        try:
            told = json.loads(run_step(f"olive-{name}", [*script, str(folder), *heads]).splitlines()[-1])
            problems |= told["problems"]
            for variant in set(told["seconds"]) - set(told["problems"]):
                took[variant] = told["seconds"][variant]
                passes = ", ".join(told["passes"][variant])
                made.append(Made(variant, "int8", folder / f"{variant}.onnx", note=f"Olive: {passes}"))
        except Failed as error:
            problems["olive"] = str(error)
    return made, took, problems


def benchmark_app(name: str, model: Path, rows: int, precision: str, missing: dict[str, str]) -> dict[str, Any]:
    """OpenVINO's benchmark with its throughput hint: rows/s over all its streams, and its median latency."""
    if "nncf" in missing:
        return {"problem": missing["nncf"]}
    with np.load(model.parent / "calibration.npz") as archive:
        shapes = ",".join(
            f"{key}[{','.join(str(extent) for extent in (rows, *archive[key].shape[1:]))}]"
            for key in archive.files
            if key != "label"
        )
    say(f"{name}: benchmark_app, {precision}, batches of {rows}")
    command = [str(Path(python_of("nncf")).with_name("benchmark_app")), "-m", str(model), "-d", "CPU"]
    command += ["-hint", "throughput", "-t", str(APP_SECONDS), "-shape", shapes, "-infer_precision", precision]
    try:
        told = run_step(f"benchmark_app-{name}-{precision}-{rows}", command)
    except Failed as error:
        return {"problem": str(error)}
    count, duration_ms, median_ms = (
        float(match[1]) * MILLISECONDS.get(match[2], 1.0) if (match := re.search(pattern, told)) else float("nan")
        for pattern in (r"Count:\s+([\d.]+)( )", r"Duration:\s+([\d.]+) (ms|us|s)", r"Median:\s+([\d.]+) (ms|us|s)")
    )
    streams = re.search(r"NUM_STREAMS:\s+(\d+)", told)
    return {
        "rows_per_s": count * rows / duration_ms * 1e3,
        "median_ms": median_ms,
        "streams": streams[1] if streams else "?",
    }


# --- the tables -------------------------------------------------------------------------------------------------------


def report(kept: dict[str, Any]) -> str:
    """For each model the table of all that was made, and OpenVINO's own figures beside ours of the same engine."""
    parts = []
    for name, record in kept.items():
        found = [msgspec.convert(each, Found) for each in record["found"]]
        rows = [row_of(each, found[0], record) for each in found]
        parts += [f"**{name}**, {record['objective']}. {record['busy']}.", table(HEAD, rows)]
        if record["problems"]:
            parts.append("Not made: " + "; ".join(f"{tool}: {why}" for tool, why in record["problems"].items()) + ".")
        told = [
            f"{what}: {app['problem']}"
            if "problem" in app
            else f"{what}: {app['rows_per_s']:,.0f} rows/s, median {app['median_ms']:.3g} ms, {app['streams']} streams"
            for what, app in record["app"].items()
        ]
        ours = [
            f"{each.name} {best_rows_per_s(each):,.0f} rows/s"
            for each in found
            if each.name in ("openvino-fp32", "openvino-bf16") and each.measured
        ]
        beside = f" Ours of the same engine, through the worker: {', '.join(ours)}." if ours else ""
        parts.append(f"`benchmark_app` of OpenVINO, throughput hint: {'; '.join(told)}.{beside}")
    return "\n\n".join(parts)


def row_of(found: Found, original: Found, record: Any) -> tuple[str, ...]:
    """One line."""
    maker = "Setpoint" if found.note == "ours" else "-" if found.verdict is None else found.note
    verdict = loss_text(msgspec.to_builtins(found.verdict)) if found.verdict else "original"
    within = "" if found.verdict is None else "yes" if found.verdict.loss.high <= 0.01 else "not proven"
    best = max(
        (each for each in found.measured if each.profile is not None),
        key=lambda each: each.candidate.workers * each.profile.best.rows_per_s if each.profile else 0.0,
        default=None,
    )
    name = f"**{found.name}**" if found.name == record["chosen"] else found.name
    if best is None or best.profile is None:
        why = found.problem or next((each.problem for each in found.measured if each.problem), "")
        return maker, name, *[""] * 6, verdict if found.verdict else "", within, why
    first, most = best.profile.latency[0], best.profile.best
    seconds = record["took"].get("nncf" if found.name.startswith("nncf") else found.name)
    return (
        maker,
        name,
        f"{best.candidate.workers} × {best.candidate.threads}",
        f"{first.p50_ms:.3g} / {first.p99_ms:.3g}",
        f"{most.rows} in {most.p50_ms:.3g} ms",
        f"{best_rows_per_s(found):,.0f}",
        f"{best_rows_per_s(found) / best_rows_per_s(original):.2f}",
        f"{found.point.rate_per_s:,.0f}" if found.point and found.point.rows else "no",
        verdict,
        within,
        f"{seconds:.0f} s" if seconds is not None else "",
    )


def best_rows_per_s(found: Found) -> float:
    """The most rows per second of all its layouts."""
    return max(
        (each.candidate.workers * each.profile.best.rows_per_s for each in found.measured if each.profile is not None),
        default=0.0,
    )


if __name__ == "__main__":
    sys.exit(main())
