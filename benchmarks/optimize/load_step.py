"""A load step against MiniLM with its front, and with fp32 alone: half of what fp32 holds, three times that, and back.

    python benchmarks/optimize/load_step.py --write-docs          # after run.py; two minutes

What fp32 holds is what the study forecasts of it under the objective's bound, in its best layout. `setpoint load` sends
a recorded schedule (Poisson in each phase, so both servers get the very same arrivals); the model's own counts, read
each second, tell which variant answered. Printed: by phase what was answered in time, which variants did it, what they
keep of the original's accuracy, and how long after a step it took until a second was held again. What was run is kept
in `build/benchmarks/optimize/load-step.json`; `--again` runs it anew.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from models import MODELS
from shared import (
    BUILD,
    REPOSITORY,
    Served,
    best_of,
    bound_ms,
    busy_note,
    busy_now,
    load_command,
    say,
    served,
    study_of,
    table,
    write_docs,
)

from setpoint.plan import FAINT, INK, Axis, Box, Line, Page, Shape, Text, svg

KEPT = BUILD / "load-step.json"
PICTURE = REPOSITORY / "docs" / "load-step.svg"
PHASES = (("before", 0.5), ("during", 3.0), ("after", 0.5))
SETTLING_S = 2
"""At the first phase's rate, before it; not counted."""
SEED = 7
HELD = 0.99
COLOURS = {"front": "#2b8a3e", "fp32 alone": "#c92a2a"}
HEAD = ("served", "phase", "× fp32", "offered/s", "in time", "in time /s", "p99 ms", "refused", "variants", "accuracy")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", default="minilm", choices=MODELS)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each phase")
    parser.add_argument("--capacity", type=float, help="of fp32, requests/s; by default as forecast")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--write-docs", action="store_true")
    arguments = parser.parse_args()
    study = study_of(arguments.model)
    fp32 = best_of(study, "fp32")
    capacity = arguments.capacity or (fp32["rate_per_s"] if fp32 else 0.0)
    if not capacity:
        raise SystemExit("fp32 cannot hold the objective; state a --capacity")
    schedule = write_schedule(capacity, arguments.seconds)
    asked = {"digest": study["digest"], "seconds": arguments.seconds, "capacity": capacity}
    kept: dict[str, Any] = {} if arguments.again or not KEPT.exists() else json.loads(KEPT.read_text())
    if kept.get("asked") != asked:
        kept = {"asked": asked, "runs": {}}
    for kind in COLOURS:
        if kind not in kept["runs"]:
            say(f"{arguments.model}, {kind}: {capacity:.0f} requests/s are all that fp32 holds")
            kept["runs"][kind] = run(study, kind, schedule, arguments.seconds)
            KEPT.write_text(json.dumps(kept, indent=1))
    text = report(arguments.model, study, kept)
    print(text)
    picture = svg(draw(kept, arguments.model))
    (BUILD / "load-step.svg").write_text(picture)
    if arguments.write_docs:
        PICTURE.write_text(picture)
        write_docs("load-step", text + f"\n\n![Answers in time during the load step]({PICTURE.name})")
    return 0


def write_schedule(capacity: float, seconds: float) -> Path:
    """Arrivals of settling and of every phase, in seconds since the start."""
    random = np.random.default_rng(SEED)
    times: list[float] = []
    start = 0.0
    for share, length in ((PHASES[0][1], SETTLING_S), *((share, seconds) for _, share in PHASES)):
        count = random.poisson(share * capacity * length)
        times += sorted((start + random.random(count) * length).tolist())
        start += length
    place = BUILD / "load-step.csv"
    place.write_text("".join(f"{moment:.6f}\n" for moment in times))
    return place


def run(study: Any, kind: str, schedule: Path, seconds: float) -> dict[str, Any]:
    """Serve, send the schedule, and read each second who answered."""
    objective, chosen = study["objective"], study["chosen"]
    point = chosen if kind == "front" else best_of(study, "fp32") or chosen
    more = ["--workers", str(point["workers"]), "--threads", str(point["threads"])]
    more += [] if kind == "front" else ["--variant", "fp32"]
    before_s = busy_now()
    with served(study["stored"], objective, *more) as node:
        length = SETTLING_S + seconds * len(PHASES)
        command = load_command(node, bound_ms(objective), "--arrivals", str(schedule), "--for", f"{length:g}s")
        command += ["--warm-up", "0s", "--in-flight", "4096"]
        watch = Watch(node)
        done = subprocess.run(command, capture_output=True, text=True)
        answered = watch.stop()
        if not done.stdout.strip():
            raise SystemExit(f"setpoint load: {done.stderr.strip()[-300:]}")
    result = json.loads(done.stdout)["runs"][0]
    record = {key: result[key] for key in ("per_second", "void", "errors", "offered", "attainment")}
    return record | {"answered": answered, "busy": busy_note(before_s)}


class Watch:
    """Reads, every second, how many answers each variant has given so far."""

    def __init__(self, node: Served) -> None:
        self._node = node
        self._stopped = threading.Event()
        self._seen: list[tuple[float, dict[str, int]]] = []
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> list[tuple[float, dict[str, int]]]:
        """Seconds since the first answer was seen, and counts by variant."""
        self._stopped.set()
        self._thread.join()
        self._seen.append((time.monotonic(), self._counts()))
        begun_s = next((at_s for at_s, counts in self._seen if counts), self._seen[0][0])
        return [(at_s - begun_s, counts) for at_s, counts in self._seen]

    def _watch(self) -> None:
        while not self._stopped.wait(0.25 if not self._seen or not self._seen[-1][1] else 1.0):
            self._seen.append((time.monotonic(), self._counts()))

    def _counts(self) -> dict[str, int]:
        pattern = re.compile(r'^setpoint_answers_total\{.*variant="([^"]+)".*\} (\d+)', re.MULTILINE)
        return {name: int(count) for name, count in pattern.findall(self._node.get("/metrics")) if int(count)}


def shares(record: Any, begin_s: float, end_s: float) -> dict[str, float]:
    """Share of the answers between two moments by variant."""

    def at(moment: float) -> dict[str, int]:
        earlier = [counts for at_s, counts in record["answered"] if at_s <= moment]
        return earlier[-1] if earlier else {}

    first, last = at(begin_s), at(end_s)
    counts = {name: count - first.get(name, 0) for name, count in last.items()}
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items() if count} if total else {}


def phases(record: Any, study: Any, seconds: float) -> list[dict[str, Any]]:
    """By phase: what was offered and what became of it."""
    accuracy = {entry["variant"]["name"]: entry["variant"]["accuracy"] for entry in study["entries"]}
    found = []
    for index, (name, share) in enumerate(PHASES):
        begin, end = SETTLING_S + index * seconds, SETTLING_S + (index + 1) * seconds
        inside = [each for each in record["per_second"] if begin <= each["second"] < end]
        offered, attained, refused = (sum(each[key] for each in inside) for key in ("offered", "attained", "refused"))
        by_variant = shares(record, begin, end)
        slowest = [each["p99_ms"] for each in inside if each["p99_ms"] is not None]
        found.append(
            {
                "name": name,
                "share": share,
                "offered_per_s": offered / seconds,
                "attainment": attained / offered if offered else 0.0,
                "goodput_per_s": attained / seconds,
                "p99_ms": float(np.median(slowest)) if slowest else None,
                "refused": refused / offered if offered else 0.0,
                "variants": by_variant,
                "accuracy": sum(share * accuracy.get(name, 0.0) for name, share in by_variant.items()),
            }
        )
    return found


def recovery(record: Any, begin_s: float, end_s: float) -> float | None:
    """Seconds after a step until a second is held, and so are all after it but one in ten; None where that never is."""
    inside = [each for each in record["per_second"] if begin_s <= each["second"] < end_s and each["offered"]]
    held = [each["attained"] >= HELD * each["offered"] for each in inside]
    for index, good in enumerate(held):
        rest = held[index:]
        if good and sum(rest) >= 0.9 * len(rest):
            return float(index)
    return None


def report(model: str, study: Any, kept: Any) -> str:
    """The table by phase, and the times to recover."""
    seconds, capacity = kept["asked"]["seconds"], kept["asked"]["capacity"]
    rows, told = [], []
    for kind, record in kept["runs"].items():
        for phase in phases(record, study, seconds):
            by_variant = sorted(phase["variants"].items(), key=lambda pair: -pair[1])
            rows.append(
                (
                    kind,
                    phase["name"],
                    f"{phase['share']:g}",
                    f"{phase['offered_per_s']:,.0f}",
                    f"{phase['attainment']:.1%}",
                    f"{phase['goodput_per_s']:,.0f}",
                    f"{phase['p99_ms']:.0f}" if phase["p99_ms"] is not None else "",
                    f"{phase['refused']:.1%}",
                    ", ".join(f"{name} {share:.0%}" for name, share in by_variant),
                    f"{phase['accuracy']:.4f}",
                )
            )
        begins = [SETTLING_S + index * seconds for index in (1, 2)]
        up, down = (recovery(record, begin, begin + seconds) for begin in begins)
        told.append(f"{kind}: after the step up {_in_words(up)}, after the step down {_in_words(down)}")
    notes = [f"{kind}: {record['busy']}" for kind, record in kept["runs"].items()]
    notes += [f"{kind} is void: {record['void']}" for kind, record in kept["runs"].items() if record["void"]]
    return "\n\n".join(
        [
            f"{model}, {study['objective']}; fp32 holds {capacity:,.0f} requests/s; {seconds:g} s a phase. p99 is the"
            " median over the phase's seconds; accuracy is the mean over answers of what their variants keep at worst.",
            table(HEAD, rows),
            f"Until {HELD:.0%} of a second's requests were in time again, and stayed so: " + "; ".join(told) + ".",
            "While this ran: " + "; ".join(notes) + ".",
        ]
    )


def _in_words(seconds: float | None) -> str:
    return "never" if seconds is None else "at once" if seconds == 0 else f"{seconds:.0f} s"


def draw(kept: Any, model: str) -> Page:
    """Offered and in time, by second, for both servers."""
    left, right, top, bottom = 70.0, 690.0, 50.0, 330.0
    runs = kept["runs"]
    seconds = max(len(record["per_second"]) for record in runs.values())
    most = max(each["offered"] for record in runs.values() for each in record["per_second"])
    across, up = Axis(0, seconds, left, right), Axis(0, most * 1.05, bottom, top)
    shapes: list[Shape] = [Text(left, 26, f"{model}: requests per second, and those answered in time", size=15)]
    for value in up.ticks():
        shapes += [
            Line(((left, up.at(value)), (right, up.at(value))), FAINT),
            _label(left - 8, up.at(value) + 4, value),
        ]
    for value in across.ticks():
        shapes.append(Text(across.at(value), bottom + 18, f"{value:g}", anchor="middle"))
    shapes.append(Text((left + right) / 2, bottom + 36, "seconds", anchor="middle"))
    offered = next(iter(runs.values()))["per_second"]
    width = (right - left) / seconds
    for each in offered:
        place = up.at(each["offered"])
        shapes.append(Box(across.at(each["second"]), place, width, bottom - place, FAINT))
    shapes.append(Text(right + 12, top + 12, "offered", colour=INK))
    for number, (kind, record) in enumerate(runs.items()):
        points = tuple((across.at(each["second"] + 0.5), up.at(each["attained"])) for each in record["per_second"])
        shapes.append(Line(points, COLOURS[kind], 4 - 2 * number))
        shapes.append(Text(right + 12, top + 32 + 20 * number, kind, colour=COLOURS[kind]))
    return Page(860, 380, f"Load step on {model}", tuple(shapes))


def _label(x: float, y: float, value: float) -> Text:
    return Text(x, y, f"{value:,.0f}", anchor="end")


if __name__ == "__main__":
    sys.exit(main())
