"""The measured runs: each server started, asked at every connection count and stopped, in an order that rotates."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from environments import TOOLS, SetupFailed, log_of, run_step, version_of
from lineup import (
    HERE,
    SERVERS,
    SETPOINT,
    WORK,
    Case,
    Peer,
    environment_name,
    python_of,
    request_body,
)
from load import LoadFailed, check_answers, load
from process import ServerProcess, StartFailed, free_ports, machine_busy_s
from report import MISSING, Outcome, RawLoop, Run, Visit

WARM_UP_S = 1
RAW_LOOP = "raw-loop"
RAW_LOOP_THREADS = 2


class WrongAnswer(Exception):
    """The check before a measured run failed."""


def say(text: str) -> None:
    """Progress goes to standard error; standard output holds the tables only."""
    print(text, file=sys.stderr, flush=True)


def read_cases(workload: str) -> list[Case]:
    """The requests with their right answers that models.py wrote."""
    return [Case(**case) for case in json.loads((WORK / "models" / f"{workload}.cases.json").read_text())]


def model_of(workload: str) -> Path:
    """The ONNX file that everybody serves."""
    return WORK / "models" / f"{workload}.onnx"


def command_of(peer: Peer, workload: str, port: int, arguments: argparse.Namespace) -> list[str]:
    """The command line that serves `workload` on `port`."""
    settings = peer.settings[workload]
    if peer.name == SETPOINT.name:
        command = [arguments.setpoint, "serve", str(model_of(workload)), "--name", workload, "--port", str(port)]
        command += ["--workers", str(settings.workers), "--threads", str(settings.threads)]
        return command + shlex.split(arguments.setpoint_args)
    command = peer.command(python_of(environment_name(peer)))
    if peer.name == "bentoml":
        service = f"bentoml_service:{workload.capitalize()}"
        command += [service, "--host", "127.0.0.1", "--port", str(port), "--working-dir", str(SERVERS)]
    return command


def environment_of(peer: Peer, workload: str, ports: list[int], folder: Path) -> dict[str, str]:
    """The server's environment variables: this process' own without Python's, and the settings as PEER_*."""
    settings = peer.settings[workload]
    python_variables = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")
    inherited = {name: value for name, value in os.environ.items() if name not in python_variables}
    return {
        **inherited,
        **peer.variables,
        "PEER_WORKLOAD": workload,
        "PEER_MODEL": str(model_of(workload)),
        "PEER_PORT": str(ports[0]),
        "PEER_PORT_2": str(ports[1]),
        "PEER_PORT_3": str(ports[2]),
        "PEER_WORKERS": str(settings.workers),
        "PEER_THREADS": str(settings.threads),
        "PEER_BATCH_ROWS": str(settings.batch_rows),
        "PEER_WINDOW_MS": str(settings.window_ms),
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "SETPOINT_HOME": str(folder / "setpoint"),
    }


def measure(
    outcome: Outcome, workload: str, round_index: int, cases: list[Case], arguments: argparse.Namespace
) -> None:
    """Start a peer, measure it at each connection count, stop it; each run is added to `outcome` as it ends.

    StartFailed, LoadFailed and WrongAnswer say why it could not go on; the runs before that stay.
    """
    peer = outcome.peer
    folder = WORK / "run" / f"{peer.name}-{workload}"
    folder.mkdir(parents=True, exist_ok=True)
    bodies = folder / "bodies.txt"
    bodies.write_bytes(b"".join(request_body(peer, case) + b"\n" for case in cases))
    ports = free_ports(3)
    path = peer.path.format(workload=workload)
    command = command_of(peer, workload, ports[0], arguments)
    log = log_of(f"{peer.name}-{workload}-{round_index}")
    with ServerProcess(command, environment_of(peer, workload, ports, folder), folder, log) as server:
        start_s = server.wait_until_right(peer, ports[0], path, cases[0])
        visit = Visit(round_index, start_s, *server.memory_mb(), runs=[])
        outcome.visits.append(visit)
        for connections in arguments.connections:
            load(ports[0], path, bodies, connections, WARM_UP_S)
            if reason := check_answers(peer, ports[0], path, cases):
                raise WrongAnswer(f"before {connections} connections: {reason}")
            tree_before_s, machine_before_s = server.cpu_s(), machine_busy_s()
            result = load(ports[0], path, bodies, connections, arguments.seconds)
            tree_s, machine_s = server.cpu_s() - tree_before_s, machine_busy_s() - machine_before_s
            rss_mb, pss_mb = server.memory_mb()
            visit.runs.append(
                Run(
                    load=result,
                    cpu_s_per_1000=tree_s / max(1, result.requests) * 1000,
                    rss_mb=rss_mb,
                    pss_mb=pss_mb,
                    foreign_cores=max(0.0, machine_s - tree_s - result.generator_cpu_s) / result.seconds,
                )
            )
            errors = sum(result.errors.values())
            say(
                f"  {peer.name:12} {workload:6} c={connections:<3} {result.requests_per_s:9,.0f}/s "
                f"p50 {result.p50_ms:7.2f}  p99 {result.p99_ms:7.2f} ms  errors {errors}"
            )


def measure_raw_loop(workload: str, seconds: float) -> RawLoop:
    """onnxruntime alone, rows/s by batch size; SetupFailed when the loop could not run."""
    name = f"raw-loop-{workload}"
    command = [str(python_of(TOOLS)), str(HERE / "ceilings.py"), str(model_of(workload))]
    command += [str(WORK / "models" / f"{workload}.cases.json"), "--threads", str(RAW_LOOP_THREADS)]
    machine_before_s, own_before_s, before_s = machine_busy_s(), children_cpu_s(), time.monotonic()
    run_step(name, [[*command, "--seconds", f"{seconds:g}"]])
    foreign_s = machine_busy_s() - machine_before_s - (children_cpu_s() - own_before_s)
    measured = {int(batch): rate for batch, rate in json.loads(log_of(name).read_text()).items()}
    say(f"  raw loop     {workload:6} " + "  ".join(f"b{batch} {rate:,.0f}/s" for batch, rate in measured.items()))
    return RawLoop(measured, max(0.0, foreign_s) / (time.monotonic() - before_s))


def children_cpu_s() -> float:
    """CPU seconds of this process' finished children."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def rotated(names: list[str], round_index: int, rounds: int) -> Iterator[str]:
    """The same names, begun at another place each round, so that nobody always runs on the warmest machine."""
    shift = round_index * max(1, len(names) // rounds)
    for index in range(len(names)):
        yield names[(index + shift) % len(names)]


def measure_all(
    peers: list[Peer], workloads: list[str], failed: dict[str, str], arguments: argparse.Namespace
) -> tuple[dict[str, list[Outcome]], dict[str, list[RawLoop]]]:
    """All rounds of all workloads. A peer that fails keeps its reason and does not end the run."""
    outcomes = {
        workload: {
            peer.name: Outcome(peer, version_of(peer), str(peer.settings[workload]) if not peer.ceiling else MISSING)
            for peer in peers
            if workload in peer.settings
        }
        for workload in workloads
    }
    raw: dict[str, list[RawLoop]] = {workload: [] for workload in workloads}
    wants_raw_loop = not arguments.only or RAW_LOOP in arguments.only
    for round_index in range(arguments.rounds):
        for workload in workloads:
            say(f"round {round_index + 1} of {arguments.rounds}, {workload}")
            cases = read_cases(workload)
            names = list(outcomes[workload])
            # iris has no such ceiling: millions of rows a second say nothing about a server.
            if wants_raw_loop and workload == "minilm":
                names.insert(0, RAW_LOOP)
            for name in rotated(names, round_index, arguments.rounds):
                if name == RAW_LOOP:
                    try:
                        raw[workload].append(measure_raw_loop(workload, max(0.5, arguments.seconds / 5)))
                    except SetupFailed as error:
                        say(f"  raw loop: {error}")
                    continue
                outcome = outcomes[workload][name]
                if reason := failed.get(environment_name(outcome.peer)):
                    outcome.failures = [reason]
                    continue
                try:
                    measure(outcome, workload, round_index, cases, arguments)
                except (StartFailed, LoadFailed, WrongAnswer) as error:
                    outcome.failures.append(str(error))
                    say(f"  {name:12} {workload:6} FAILED: {error}")
    return {workload: list(each.values()) for workload, each in outcomes.items()}, raw
