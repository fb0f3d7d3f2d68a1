"""Who holds an objective when more is asked for than the machine can do? README.md explains."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from workloads import WORK, WORKLOADS, Workload

from setpoint.core import Limits, Objective
from setpoint.machine import engine_fingerprint
from setpoint.node import ModelConfig, terms_of
from setpoint.node import best_layout as chosen_layout
from setpoint.registry import Registry
from setpoint.scheduling import held_rows_per_s

from environments import TOOLS, ensure_environment  # isort: skip  # workloads puts the peers' folder on the path
from lineup import PEERS, REPOSITORY, Settings, python_of  # isort: skip
from process import ServerProcess, StartFailed, free_ports, read_stat  # isort: skip

LOADS = (0.5, 0.8, 1.5, 3.0)
CORES = 2
MAXIMUM_STEP = 1.12
MAXIMUM_S = 60.0
MAXIMUM_PROBE_S = 4.0
SETPOINT = str(REPOSITORY / ".venv/bin/setpoint")
READY_S = 60.0
FIRST = ("chrt", "--rr", "1") if os.geteuid() == 0 else ()
"""Sends what is due at once, as another machine would; with niceness alone half of the runs were void, by 2 to 4 ms."""
PEER_SETTINGS = {
    "bentoml": Settings(workers=2, threads=1, batch_rows=32),
    "litserve": Settings(workers=1, threads=2, batch_rows=32, window_ms=5),
    "fastapi": Settings(workers=2, threads=1),
}
OURS = ("setpoint", "setpoint-exact", "setpoint-variants")
"""With the original as it came; with the fastest engine that computes the same; with all that the objective allows."""
EXACT = 1 - 1e-6
"""Accuracy relative to the original from which on a variant is the same arithmetic in another order."""


@dataclass(frozen=True)
class Point:
    """One server under one load."""

    server: str
    load: float
    result: dict[str, Any]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def raw_rows_per_s(workload: Workload, seconds: float) -> float:
    """The engine in a loop on both cores, with the best batch."""
    ensure_environment(TOOLS)
    cases = WORK / f"{workload.name}.cases.json"
    cases.write_text(json.dumps([{"inputs": row, "datatypes": workload.datatypes} for row in workload.rows]))
    script = REPOSITORY / "benchmarks/peers/ceilings.py"
    command = [str(python_of(TOOLS)), str(script), str(workload.model), str(cases), "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(max(json.loads(done.stdout).values()))


def setpoint_environment() -> dict[str, str]:
    return {**os.environ, "SETPOINT_HOME": str(WORK / "home")}


def optimize(workload: Workload, budget: str) -> None:
    """Make the variants and their profiles, on this machine, now."""
    objective = f"p99<={workload.bound_ms}ms, drop<={workload.drop_percent}%"
    command = [SETPOINT, "optimize", str(workload.model), "--name", workload.name, "--objective", objective]
    done = subprocess.run(
        [*command, "--budget", budget, *workload.optimize],
        env=setpoint_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    say(done.stdout)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)


def command_of(
    server: str, workload: Workload, port: int, variant: str = "", serving: tuple[str, ...] = ()
) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of a server; ``serving`` is more of ``setpoint serve``."""
    if server in OURS:
        drop = f", drop<={workload.drop_percent}%" if server == "setpoint-variants" else ""
        # Nothing is said of workers and threads: they are what the profiles make of them.
        command = [SETPOINT, "serve", workload.name, "--port", str(port), *serving]
        command += ["--objective", f"p99<={workload.bound_ms}ms{drop}"]
        if drop and "--accept-made-up" in workload.optimize:
            command.append("--accept-made-up")
        if chosen := variant or alone(server, workload):
            command += ["--variant", chosen]
        return command, setpoint_environment()
    peer = next(peer for peer in PEERS if peer.name == server)
    settings = PEER_SETTINGS[server]
    command = peer.command(python_of(server))
    if server == "bentoml":
        folder = str(REPOSITORY / "benchmarks/peers/servers")
        service = f"bentoml_service:{workload.name.capitalize()}"
        command += [service, "--host", "127.0.0.1", "--port", str(port), "--working-dir", folder]
    variables = {
        "PEER_WORKLOAD": workload.name,
        "PEER_MODEL": str(workload.model),
        "PEER_PORT": str(port),
        "PEER_WORKERS": str(settings.workers),
        "PEER_THREADS": str(settings.threads),
        "PEER_BATCH_ROWS": str(settings.batch_rows),
        "PEER_WINDOW_MS": str(settings.window_ms),
        "PEER_LATENCY_MS": str(workload.bound_ms),
        "BENTOML_HOME": str(WORK / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    return command, {**os.environ, **variables}


def address(server: str, workload: Workload, port: int) -> tuple[str, Path]:
    """What to ask, and with which bodies."""
    if server in OURS:
        return f"http://127.0.0.1:{port}/v2/models/{workload.name}", workload.bodies("v2")
    peer = next(peer for peer in PEERS if peer.name == server)
    return f"http://127.0.0.1:{port}{peer.path}", workload.bodies(peer.dialect)


def setpoint_load(url: str, bodies: Path, workload: Workload, rate: float, seconds: float, *more: str) -> Any:
    """One run of the load generator, before everybody else on the processor."""
    command = [*FIRST, SETPOINT, "load", url, "--data", str(bodies), "--rate", f"{rate:.1f}", "--for", f"{seconds}s"]
    command += ["--deadline", f"{workload.bound_ms}ms", "--warm-up", "2s", "--timeout", "3s", "--json", *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        raise StartFailed(done.stderr.strip()[-200:])
    return json.loads(done.stdout)


def measure(
    server: str,
    workload: Workload,
    rate: float,
    seconds: float,
    variant: str = "",
    more: tuple[str, ...] = (),
    serving: tuple[str, ...] = (),
) -> Any:
    """Start a server, ask until it answers, load it, stop it.

    Returns:
        what the load generator said, and under ``server_cpu_s`` what the server's first process used meanwhile: of
        Setpoint that is the node without its workers.
    """
    (port,) = free_ports(1)
    command, environment = command_of(server, workload, port, variant, serving)
    url, bodies = address(server, workload, port)
    with ServerProcess(command, environment, WORK / "run", WORK / f"{server}-{workload.name}.log") as process:
        deadline_s = time.monotonic() + READY_S
        while True:
            try:
                setpoint_load(url, bodies, workload, 20, 0.5, "--warm-up", "0s")
                break
            except StartFailed:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.2)
        before = read_stat(process.process.pid)
        record = setpoint_load(url, bodies, workload, rate, seconds, *more)
        after = read_stat(process.process.pid)
        record["server_cpu_s"] = after.cpu_s - before.cpu_s if before and after else 0.0
        return record


def row(point: Point) -> str:
    """One line of the table."""
    result = point.result
    latency = result["latency"] or {}
    refusals = result["refusal_latency"] or {}
    lag = result["generator"]["lag"]["p99_ms"]
    cells = [
        point.server,
        f"{point.load:g}",
        f"{result['offered_per_s']:.0f}",
        f"{result['attainment']:.3f}",
        f"{result['goodput_per_s']:.0f}",
        f"{latency.get('p50_ms', float('nan')):.1f} / {latency.get('p99_ms', float('nan')):.1f}",
        f"{result['refused'] / result['offered']:.0%}",
        f"{refusals.get('p50_ms', float('nan')):.1f} / {refusals.get('p99_ms', float('nan')):.1f}",
        ", ".join(f"{kind} {count}" for kind, count in result["errors"].items()) or "-",
        f"{result['generator']['share_of_core']:.0%}",
        f"{lag:.1f}" + (" void" if result["void"] else ""),
    ]
    return "| " + " | ".join(cells) + " |"


HEAD = (
    "| server | load | offered/s | attained | goodput/s | answered p50 / p99 ms | refused | after p50 / p99 ms "
    "| errors | generator, of a core | its lag p99 ms |\n|" + "---|" * 11
)


def run_workload(workload: Workload, arguments: argparse.Namespace) -> list[Point]:
    raw = raw_rows_per_s(workload, 1.5)
    print(f"\n### {workload.name}, p99 <= {workload.bound_ms} ms; the raw engine does {raw:.0f} rows/s\n\n{HEAD}")
    points = []
    for load in arguments.loads:
        for server in arguments.only:
            try:
                (result,) = measure(server, workload, load * raw, arguments.seconds)["runs"]
            except (StartFailed, KeyError) as error:
                print(f"| {server} | {load:g} | failed: {error} |" + " |" * 8)
                continue
            points.append(Point(server, load, result))
            print(row(points[-1]), flush=True)
    if arguments.maxima:
        print_maxima(workload, points, arguments, raw)
    return points


def print_maxima(workload: Workload, points: list[Point], arguments: argparse.Namespace, raw: float) -> None:
    """The largest proven rates, and the goodput beyond capacity beside them.

    The search begins at what the profile says, from where small steps soon enclose the maximum.
    """
    for server in OURS:
        if server not in arguments.only:
            continue
        variant = alone(server, workload) or fastest(workload, 0.0)
        # Of what one variant alone held beyond its capacity, most is held at 99 % too.
        seen = [point.result["goodput_per_s"] for point in points if point.server == server != "setpoint-variants"]
        start = 0.9 * max([0.8 * best_layout(workload, variant)[2], *seen])
        more = ("--find-max", "--step", str(MAXIMUM_STEP), "--within", f"{MAXIMUM_S}s")
        begun_s = time.monotonic()
        maximum = measure(server, workload, start, MAXIMUM_PROBE_S, variant, more)["maximum"]
        rate = maximum["rate_per_s"] or 0.0
        tried = ", ".join(f"{probe['rate_per_s']:.0f} {probe['outcome']}" for probe in maximum["probes"])
        print(
            f"\n{server}, {variant} alone: {rate:.0f}/s proven ({rate / raw:.2f} of the raw engine); bounded by "
            f"{maximum['bounded_by']}, after {time.monotonic() - begun_s:.0f} s: {tried}.",
            flush=True,
        )
        for point in points:
            if point.server == server and point.load > 1 and rate:
                share = point.result["goodput_per_s"] / rate
                print(f"  goodput at {point.load:g} times the raw engine: {share:.0%} of it")


def best_layout(workload: Workload, variant: str) -> tuple[int, int, float]:
    """Workers and threads that ``setpoint serve`` takes for a variant, and what they hold by its profiles."""
    registry = Registry(WORK / "home")
    bundle = registry.resolve(workload.name)
    objective = Objective.parse(f"p99<={workload.bound_ms}ms")
    config = ModelConfig(bundle, registry.folder(bundle), objective=objective, variant=variant)
    workers, threads = chosen_layout(config, Limits(), engine_fingerprint, CORES) or (1, CORES)
    config = msgspec.structs.replace(config, workers=workers, threads=threads)
    return workers, threads, max(held_rows_per_s(terms_of(config, Limits(), engine_fingerprint), workers))


def fastest(workload: Workload, least_accuracy: float) -> str:
    """The variant that holds most, of those that are accurate enough."""
    variants = Registry(WORK / "home").resolve(workload.name).manifest.variants
    names = [each.name for each in variants if each.accuracy >= least_accuracy]
    return max(names, key=lambda name: best_layout(workload, name)[2])


def alone(server: str, workload: Workload) -> str:
    """The only variant that the server answers with; empty where there are several."""
    if server == "setpoint-variants":
        return ""
    return "fp32" if server == "setpoint" else fastest(workload, EXACT)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workload", default=",".join(WORKLOADS))
    parser.add_argument("--only", default=",".join((*OURS, *PEER_SETTINGS)), help="servers, comma-separated")
    parser.add_argument("--loads", default=",".join(map(str, LOADS)), help="relative to the raw engine")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each point")
    parser.add_argument("--budget", default="3m", help="for setpoint optimize; 0 takes what was made before")
    parser.add_argument("--no-maxima", dest="maxima", action="store_false")
    arguments = parser.parse_args()
    arguments.only = arguments.only.split(",")
    arguments.loads = [float(load) for load in arguments.loads.split(",")]
    WORK.mkdir(parents=True, exist_ok=True)
    for server in set(arguments.only) - set(OURS):
        ensure_environment(server)
    record = {}
    for name in arguments.workload.split(","):
        workload = WORKLOADS[name]()
        if arguments.budget != "0":
            optimize(workload, arguments.budget)
        record[name] = [vars(point) for point in run_workload(workload, arguments)]
    (WORK / "results.json").write_text(json.dumps(record))


if __name__ == "__main__":
    main()
