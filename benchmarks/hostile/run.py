"""100,000 malformed and hostile requests on one node, good ones between them: what it answers, and what it keeps.

    python benchmarks/hostile/run.py [--requests 100000] [--seed 1] [--attackers 16]

Exits 1 where a response was wrong, a server error was given, something was left open, or the node kept memory.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "integration")]

from harness import RunningNode, pack_into, start_node, until  # noqa: E402

from hostile.campaign import Tally, campaign  # noqa: E402
from hostile.models import WORDS, Iris, train_iris  # noqa: E402

ROUNDS = 10
MIB = 1 << 20
KEPT_LIMIT_BYTES = 4 * MIB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--attackers", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graph, iris = train_iris()
        pack_into(folder / "home", folder, graph, "iris")
        pack_into(folder / "home", folder, WORDS, "words")
        node = start_node(folder / "home", folder, "iris", "words").until_ready()
        try:
            return attack(node, iris, options.requests, options.seed, options.attackers)
        finally:
            node.end()


def attack(node: RunningNode, iris: Iris, requests: int, seed: int, attackers: int) -> int:
    """Half of the requests with everything, half without bodies of a megabyte, whose heap hides what leaks."""
    total = Tally()
    resident: list[int] = []
    workers = node.workers()
    begun_s = time.monotonic()
    print(f"{'hostile':>9} {'good':>7} {'wrong':>6} {'5xx':>5} {'node MiB':>9} {'all MiB':>8}")
    print(f"{0:>9} {0:>7} {0:>6} {0:>5} {resident_mib(node, process='node'):>9.1f} {resident_mib(node):>8.1f}")
    for number in range(ROUNDS):
        small = number >= ROUNDS // 2
        if number == ROUNDS // 2:
            print("without large bodies from here on")
        tally = asyncio.run(
            campaign(node.port, iris, requests // ROUNDS, seed * 1000 + number, small=small, attackers=attackers)
        )
        total.add(tally)
        resident.append(int(node.metric("setpoint_resident_bytes", process="node")))
        print(
            f"{total.hostile:>9} {total.good:>7} {total.wrong.total():>6} {server_errors(total):>5} "
            f"{resident[-1] / MIB:>9.1f} {resident_mib(node):>8.1f}",
            flush=True,
        )
    seconds = time.monotonic() - begun_s
    print(f"\n{total.hostile} hostile and {total.good} good requests in {seconds:.0f} s; {len(total.sent)} kinds")
    table("kind", total.sent)
    table("status", total.statuses)
    table("outcome at the models", Counter(node.outcomes()))
    for complaint in total.complaints:
        print(complaint)
    failures = judge(node, total, resident, workers)
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


def resident_mib(node: RunningNode, **labels: str) -> float:
    return node.metric("setpoint_resident_bytes", **labels) / MIB


def server_errors(tally: Tally) -> int:
    return sum(count for status, count in tally.statuses.items() if status >= 500)


def table(title: str, counts: Counter[str] | Counter[int]) -> None:
    print(f"\n{title}")
    for name, count in counts.most_common():
        print(f"{count:>9}  {name}")


def judge(node: RunningNode, total: Tally, resident: list[int], workers: list[int]) -> list[str]:
    """What must hold at the end."""
    failures = []
    if total.wrong:
        failures.append(f"{total.wrong.total()} responses were wrong")
    if server_errors(total):
        failures.append(f"{server_errors(total)} server errors")
    small = resident[len(resident) // 2 :]
    kept = min(small[-2:]) - small[0]
    print(f"\nkept by the node over the last {len(small) - 1} rounds: {kept / 1024:.0f} KiB")
    if kept > KEPT_LIMIT_BYTES:
        failures.append(f"the node kept {kept / MIB:.1f} MiB")
    if node.workers() != workers:
        failures.append("a worker was replaced")
    if "bug" in node.log or "Traceback" in node.log:
        failures.append(f"the node logged a bug:\n{node.log[-3000:]}")
    try:
        until(lambda: node.metric("setpoint_http_in_flight") == 1 == node.metric("setpoint_http_connections"), 5)
    except AssertionError:
        failures.append(
            f"in flight: {node.metric('setpoint_http_in_flight'):.0f}, "
            f"connections: {node.metric('setpoint_http_connections'):.0f}; expected this scrape's own"
        )
    if sum(node.outcomes().values()) != node.metric("setpoint_requests_accepted_total"):
        failures.append("accepted requests and outcomes differ")
    return failures


if __name__ == "__main__":
    sys.exit(main())
