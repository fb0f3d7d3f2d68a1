"""Measures Setpoint beside its peers, interleaved, on this machine, and prints Markdown. README.md explains."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from environments import TOOLS, SetupFailed, ensure_environment, ensure_model, ensure_wrk, environments_of, lock
from lineup import OPTIONAL, PEERS, REPOSITORY, SETPOINT, WORK, WORKLOADS, Peer, environment_name
from measure import RAW_LOOP, measure_all, say
from report import Outcome, RawLoop, machine, measured_table, ratio_table, raw_loop_table, spread_note, verdicts

EXAMPLES = """
  python benchmarks/peers/run.py                     set up what is missing, then measure everything
  python benchmarks/peers/run.py --setup             only set up
  python benchmarks/peers/run.py --only setpoint,fastapi --seconds 5 --workload iris
"""


def arguments_of(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    known = [peer.name for peer in (*PEERS, *OPTIONAL)]
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--setup", action="store_true", help="make the environments and models, measure nothing")
    parser.add_argument("--lock", action="store_true", help="resolve the peers' versions anew (needs uv)")
    parser.add_argument("--only", default="", help=f"comma-separated: {', '.join(known)}, {RAW_LOOP}")
    parser.add_argument("--workload", default=",".join(WORKLOADS), help="comma-separated: iris, minilm")
    parser.add_argument("--connections", default="1,8,64", help="closed-loop connection counts (default %(default)s)")
    parser.add_argument("--seconds", type=int, default=5, help="length of a measured run (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="interleaved rounds (default %(default)s)")
    parser.add_argument(
        "--settings", action="append", default=[], metavar="PEER=WxT", help="other workers x threads, to try a setting"
    )
    parser.add_argument("--setpoint", default=str(REPOSITORY / ".venv/bin/setpoint"), help="the command to measure")
    parser.add_argument("--setpoint-args", default="", help="further arguments for `setpoint serve`")
    parser.add_argument("--json", type=Path, default=WORK / "results.json", help="where the raw results go")
    arguments = parser.parse_args(argv)
    arguments.only = [name for name in arguments.only.split(",") if name]
    arguments.workload = [name for name in arguments.workload.split(",") if name]
    arguments.connections = [int(count) for count in arguments.connections.split(",")]
    if unknown := set(arguments.only) - {*known, RAW_LOOP}:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; known: {', '.join(known)}, {RAW_LOOP}")
    if unknown := set(arguments.workload) - set(WORKLOADS):
        parser.error(f"no such workload: {', '.join(sorted(unknown))}; known: {', '.join(WORKLOADS)}")
    if arguments.seconds < 1 or arguments.rounds < 1:
        parser.error("--seconds and --rounds are 1 or more")
    return arguments


def set_up(peers: list[Peer], workloads: list[str]) -> dict[str, str]:
    """Make what is missing; returns what failed, by environment or workload, so that the others can be measured."""
    failed: dict[str, str] = {}
    ensure_wrk()
    ensure_environment(TOOLS)
    for environment in dict.fromkeys(environment_name(peer) for peer in peers if peer.name != SETPOINT.name):
        started = time.monotonic()
        try:
            ensure_environment(environment)
            say(f"environment {environment}: ready ({time.monotonic() - started:.0f} s)")
        except SetupFailed as error:
            failed[environment] = str(error)
            say(f"environment {environment}: FAILED, {error}")
    for workload in workloads:
        try:
            ensure_model(workload)
            say(f"model {workload}: ready")
        except SetupFailed as error:
            failed[workload] = str(error)
            say(f"model {workload}: FAILED, {error}")
    return failed


def with_settings(peers: list[Peer], overrides: list[str]) -> list[Peer]:
    """Apply each --settings PEER=WORKERSxTHREADS to all workloads of that peer; SetupFailed when it reads otherwise."""
    chosen = {peer.name: peer for peer in peers}
    for override in overrides:
        match = re.fullmatch(r"([\w-]+)=(\d+)x(\d+)", override)
        if match is None or match[1] not in chosen:
            raise SetupFailed(f"--settings {override}: expected PEER=WORKERSxTHREADS with one of {', '.join(chosen)}")
        peer = chosen[match[1]]
        changed = {
            workload: replace(settings, workers=int(match[2]), threads=int(match[3]))
            for workload, settings in peer.settings.items()
        }
        chosen[peer.name] = replace(peer, settings=changed)
    return list(chosen.values())


def print_report(
    outcomes: dict[str, list[Outcome]],
    raw: dict[str, list[RawLoop]],
    failed: dict[str, str],
    arguments: argparse.Namespace,
) -> None:
    """The Markdown, on standard output."""
    connections = arguments.connections
    print(f"Measured {time.strftime('%Y-%m-%d')}: {machine()}; wrk, 1 thread, closed loop, on the same cores;")
    rounds = f"medians of {arguments.rounds} interleaved rounds" if arguments.rounds > 1 else "one round"
    print(f"{arguments.seconds} s a run, {rounds}, answers checked before each run.")
    for workload, each in outcomes.items():
        raw_table, raw_best = raw_loop_table(raw[workload])
        parts = [f"\n### {workload}", measured_table(each, connections), raw_table, ratio_table(each, connections)]
        parts.append("\n".join(verdicts(workload, each, raw_best, connections)))
        parts.append(spread_note(each, raw[workload], connections))
        print("\n\n".join(part for part in parts if part))
    for workload in arguments.workload:
        if workload in failed:
            print(f"\n### {workload}\n\nNot measured: {failed[workload]}")


def write_results(
    target: Path,
    outcomes: dict[str, list[Outcome]],
    raw: dict[str, list[RawLoop]],
    arguments: argparse.Namespace,
) -> None:
    """Every single run, for later comparison; medians can be made from it again."""

    def plain(outcome: Outcome) -> dict[str, Any]:
        visits = [asdict(visit) for visit in outcome.visits]
        head = {"peer": outcome.peer.name, "version": outcome.version, "settings": outcome.settings}
        return {**head, "visits": visits, "failures": outcome.failures}

    target.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": machine(),
        "seconds": arguments.seconds,
        "rounds": arguments.rounds,
        "connections": arguments.connections,
        "raw_loop": {workload: [asdict(each) for each in loops] for workload, loops in raw.items()},
        "workloads": {workload: [plain(outcome) for outcome in each] for workload, each in outcomes.items()},
    }
    target.write_text(json.dumps(document, indent=1))
    say(f"raw results: {target}")


def main(argv: list[str]) -> int:
    """Exit codes: 0 measured (or set up), 1 nothing could be measured, 2 misuse."""
    arguments = arguments_of(argv)
    optional = [peer for peer in OPTIONAL if peer.name in arguments.only]
    peers = [*(peer for peer in PEERS if not arguments.only or peer.name in arguments.only), *optional]
    try:
        if arguments.lock:
            lock(environments_of(peers))
            return 0
        peers = with_settings(peers, arguments.settings)
        failed = set_up(peers, arguments.workload)
    except SetupFailed as error:
        say(str(error))
        return 1
    if arguments.setup:
        return 1 if failed else 0
    workloads = [workload for workload in arguments.workload if workload not in failed]
    outcomes, raw = measure_all(peers, workloads, failed, arguments)
    print_report(outcomes, raw, failed, arguments)
    write_results(arguments.json, outcomes, raw, arguments)
    return 0 if any(outcome.visits for each in outcomes.values() for outcome in each) or any(raw.values()) else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (KeyboardInterrupt, subprocess.TimeoutExpired) as stopped:
        say(f"stopped: {stopped!r}")
        sys.exit(1)
