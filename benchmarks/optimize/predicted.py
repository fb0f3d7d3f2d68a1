"""What `setpoint optimize` forecasts at the chosen point, beside what is observed there when it is served.

    python benchmarks/optimize/predicted.py --write-docs          # after run.py; two to three minutes

For each model the chosen variant of the optimised bundle is served with the objective in the chosen layout: alone, for
the forecast is of it, and beside others the node would answer with better ones while it can. `setpoint load` sends it
open-loop Poisson traffic, one row a request, at the rate that is forecast to be held. The forecast is for clients
elsewhere; here the load generator works on the same cores. So a short run first measures what a request costs the
generator, the same forecast is made with that taken off the cores, and its rate is driven, or the highest at which the
generator can keep time. The original alone is served and driven likewise. Results are kept in
`build/benchmarks/optimize/predicted.json`; `--again` measures them anew.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from models import MODELS, prepare
from shared import (
    BUILD,
    best_of,
    bound_ms,
    busy_note,
    busy_now,
    load,
    result_file,
    say,
    served,
    study_of,
    table,
    write_docs,
)

from setpoint.core import Objective, Profile
from setpoint.optimize.forecast import forecast, outcome_at
from setpoint.optimize.study import Point
from setpoint.optimize.surroundings import Surroundings, surroundings_of
from setpoint.registry import Bundle, Registry

KEPT = BUILD / "predicted.json"
PROBE_S = 3.0
PROBE_SHARE, PROBE_RATE_MOST = 0.5, 6000.0
WARM_UP_S = 2.0
GENERATOR_USE_MOST = 0.6
"""Of a core: beyond it the generator does not keep its own time."""
WANTED = 0.10
HEAD = (
    *("model", "point", "forecast, rows/s", "driven, rows/s", "p99 ms forecast", "observed, in time /s", "p99 ms"),
    *("in time", "rows/s off by", "p99 off by", "µs a request: node / forecast / generator", ""),
)


class Missed(Exception):
    """A point that cannot be observed here, and why."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", choices=[*MODELS, []], default=[])
    parser.add_argument("--seconds", type=float, default=12.0, help="of each run")
    parser.add_argument("--wire", choices=("json", "binary"), default="json")
    parser.add_argument("--without-fp32", action="store_true", help="only the chosen points")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--write-docs", action="store_true")
    arguments = parser.parse_args()
    kept: dict[str, Any] = {} if arguments.again or not KEPT.exists() else json.loads(KEPT.read_text())
    for name in arguments.models or list(MODELS):
        if not result_file(name).exists():
            say(f"{name}: not optimised yet")
            continue
        study = study_of(name)
        for kind in ("chosen",) if arguments.without_fp32 else ("chosen", "fp32"):
            point = study["chosen"] if kind == "chosen" else best_of(study, "fp32")
            key = f"{name} {kind}"
            if point is None:
                say(f"{key}: cannot hold the objective")
                kept.pop(key, None)
            elif key not in kept or kept[key]["digest"] != study["digest"] or kept[key]["seconds"] < arguments.seconds:
                try:
                    kept[key] = observe(name, study, kind, msgspec.convert(point, Point), arguments)
                except Missed as error:
                    kept.pop(key, None)
                    say(f"{key}: {error}")
                KEPT.write_text(json.dumps(kept, indent=1))
    text = report(kept)
    print(text)
    if arguments.write_docs:
        write_docs("predicted", text)
    return 0


def observe(name: str, study: Any, kind: str, point: Point, arguments: argparse.Namespace) -> dict[str, Any]:
    """Serve a point, drive it at the rate that is forecast, and put both beside each other."""
    objective = study["objective"]
    deadline_ms = bound_ms(objective)
    layout = ["--workers", str(point.workers), "--threads", str(point.threads)]
    more = [*layout, "--variant", point.variant]
    say(f"{name}: {kind}, {point.variant} {point.layout}")
    before_s = busy_now()
    with served(study["stored"], objective, *more) as node:
        wire = ("--wire", arguments.wire, "--warm-up", f"{WARM_UP_S:g}s")
        probe_rate = min(PROBE_SHARE * point.rate_per_s, PROBE_RATE_MOST)
        probe = load(node, probe_rate, PROBE_S, deadline_ms, *wire)
        generator_s = probe["generator"]["cpu_s"] / sent(probe, PROBE_S)
        here, alone = surroundings(study["stored"], int(generator_s * 1e9), name)
        predicted = forecast(point, profile_of(study, point), Objective.parse(objective), limit_rows(study), here)
        if not predicted.rows:
            raise Missed("nothing is held with the generator on the same cores")
        most = GENERATOR_USE_MOST / generator_s
        if most < predicted.rate_per_s:
            simulated = outcome_at(
                *(most, point, profile_of(study, point), Objective.parse(objective), limit_rows(study), here)
            )
            predicted = msgspec.structs.replace(predicted, rate_per_s=most, latency_ms=simulated.p99_ms)
        cpu_s = node.cpu_s()
        run = load(node, predicted.rate_per_s, arguments.seconds, deadline_ms, *wire)
        node_s = (node.cpu_s() - cpu_s) / sent(run, arguments.seconds)
    return {
        "digest": study["digest"],
        "seconds": arguments.seconds,
        "point": msgspec.to_builtins(point),
        "predicted": msgspec.to_builtins(predicted),
        "node_us": node_s * 1e6,
        "forecast_us": (alone.request_at(predicted.rate_per_s) + alone.batch_ns / predicted.rows) / 1e3,
        "generator_us": generator_s * 1e6,
        "run": {key: run[key] for key in ("offered_per_s", "attainment", "goodput_per_s", "latency", "void", "errors")},
        "busy": busy_note(before_s),
    }


def sent(run: Any, seconds: float) -> float:
    """Requests that left the generator, those of the warm-up too."""
    return float((run["offered"] - run["errors"].get("overflow", 0)) * (1 + WARM_UP_S / seconds))


def surroundings(reference: str, generator_ns: int, name: str) -> tuple[Surroundings, Surroundings]:
    """With the generator on the same cores, and without."""
    signature = bundle_of(reference).manifest.signature
    assert signature is not None
    _, data, _ = prepare(name, BUILD)
    with np.load(Path(data)) as archive:
        alone = surroundings_of(signature, [archive[spec.name][:1] for spec in signature.inputs])
    return msgspec.structs.replace(alone, beside_ns=generator_ns), alone


def bundle_of(reference: str) -> Bundle:
    """From these benchmarks' registry."""
    return Registry(BUILD / "home").resolve(reference)


def limit_rows(study: Any) -> int:
    """The largest batch."""
    endpoint = bundle_of(study["stored"]).manifest.tensor_endpoint
    return endpoint.batch_rows if endpoint else 1


def profile_of(study: Any, point: Point) -> Profile:
    """What was measured of the point's variant in its layout."""
    entry = next(entry for entry in study["entries"] if entry["variant"]["name"] == point.variant)
    for measured in entry["measured"]:
        candidate = measured["candidate"]
        if (candidate["workers"], candidate["threads"]) == (point.workers, point.threads):
            return msgspec.convert(measured["profile"], Profile)
    raise SystemExit(f"{point.variant} was not measured in {point.layout}")


def differences(record: Any) -> tuple[float, float]:
    """Of rate and of p99: observed over forecast, less 1."""
    run, predicted = record["run"], record["predicted"]
    p99_ms = run["latency"]["p99_ms"] if run["latency"] else float("inf")
    return run["goodput_per_s"] / predicted["rate_per_s"] - 1, p99_ms / predicted["latency_ms"] - 1


def report(kept: dict[str, Any]) -> str:
    """The table, the medians over the chosen points, and what was observed of MiniLM's gain."""
    rows = []
    for key, record in kept.items():
        point, predicted, run = record["point"], record["predicted"], record["run"]
        rate_off, p99_off = differences(record)
        rows.append(
            (
                key,
                f"{point['variant']} {point['workers']} × {point['threads']}",
                f"{point['rate_per_s']:,.0f}",
                f"{predicted['rate_per_s']:,.0f}",
                f"{predicted['latency_ms']:.3g}",
                f"{run['goodput_per_s']:,.0f}",
                f"{run['latency']['p99_ms']:.3g}" if run["latency"] else "none",
                f"{run['attainment']:.1%}",
                f"{rate_off:+.1%}",
                f"{p99_off:+.1%}",
                f"{record['node_us']:.0f} / {record['forecast_us']:.0f} / {record['generator_us']:.0f}",
                "void" if run["void"] else "",
            )
        )
    chosen = {key: record for key, record in kept.items() if key.endswith(" chosen")}
    parts = [table(HEAD, rows)]
    if chosen:
        pairs = [differences(record) for record in chosen.values()]
        rate, p99 = (statistics.median(abs(pair[index]) for pair in pairs) for index in (0, 1))
        verdict = "reached" if max(rate, p99) <= WANTED else "not reached"
        parts.append(
            f"Median over {len(chosen)} chosen points: rate off by {rate:.1%}, p99 by {p99:.1%}"
            f" (wanted: within {WANTED:.0%}; {verdict}). While this ran, {_busiest(kept)}"
        )
    if {"minilm chosen", "minilm fp32"} <= set(kept):
        ours, theirs = (kept[f"minilm {kind}"]["run"]["goodput_per_s"] for kind in ("chosen", "fp32"))
        parts.append(
            f"Observed of MiniLM: {ours:,.0f} answers/s in time with the variants, {theirs:,.0f} with fp32 alone"
            f" under the same bound: {ours / theirs:.2f} times."
        )
    return "\n\n".join(parts)


def _busiest(kept: dict[str, Any]) -> str:
    notes = [record["busy"] for record in kept.values()]
    return f"{max(notes, key=lambda note: float(note.split()[0]))} at most."


if __name__ == "__main__":
    sys.exit(main())
