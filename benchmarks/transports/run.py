"""How should batches reach the worker?

Measures a batch's round trip between a node's event loop (uvloop) and one worker for each transport of `node.py`, on
a tiny and a large model whose computation is nearly nothing. All workers are started at once and driven one after the
other; the order rotates every round, and the tables show medians. With 1 batch in flight the round trip is seen, with
2 the node fills the next batch while the worker is busy.

    python benchmarks/transports/run.py [--rounds 9] [--seconds 0.3]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import uvloop
from node import TRANSPORTS, Array, Rows, Transport
from worker import compute, keep_freed_memory

RNG = np.random.default_rng(0)
BATCHES: dict[str, Rows] = {
    "tiny 16 x [4]": [RNG.random((1, 4), np.float32) for _ in range(16)],
    "large 8 x [3, 224, 224]": [RNG.random((1, 3, 224, 224), np.float32) for _ in range(8)],
}
IN_FLIGHT = (1, 2)
REFERENCE = next(iter(TRANSPORTS))


class Sample(msgspec.Struct, frozen=True):
    """One measured phase."""

    p50_us: float
    p99_us: float
    batches_per_s: float
    node_cpu_us: float
    """CPU time of the node process per batch, microseconds."""
    worker_cpu_us: float
    """CPU time of the worker process per batch, microseconds; 0 for `inline`, whose thread is the node's."""
    foreign_cores: float
    """Cores that neither node nor worker used, but somebody did: the noise."""


def worker_cpu_ns(pid: int | None) -> int:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) if pid else 0


def busy_ns() -> int:
    """CPU time used by everybody on this machine, steal included, idle and iowait not."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


async def drive(transport: Transport, rows: Rows, in_flight: int, seconds: float) -> Sample:
    """Closed loop with `in_flight` batches; every answer's first and last row are checked."""
    expected = compute(np.concatenate(rows))
    finished = asyncio.Event()
    sent_ns: dict[int, int] = {}
    trips_ns: list[int] = []
    end_ns = time.perf_counter_ns() + int(seconds * 1e9)

    def send(ticket: int) -> None:
        sent_ns[ticket] = time.perf_counter_ns()
        transport.submit(ticket, rows)

    def on_answer(ticket: int, result: Array) -> None:
        now_ns = time.perf_counter_ns()
        trips_ns.append(now_ns - sent_ns.pop(ticket))
        if result.shape != expected.shape or result[0, 0] != expected[0, 0] or result[-1, -1] != expected[-1, -1]:
            raise SystemExit(f"wrong answer to batch {ticket}")
        if now_ns < end_ns:
            send(ticket + in_flight)
        elif not sent_ns:
            finished.set()

    transport.on_answer = on_answer
    node_ns, worker_ns, all_ns = time.process_time_ns(), worker_cpu_ns(transport.pid), busy_ns()
    start_ns = time.perf_counter_ns()
    for ticket in range(in_flight):
        send(ticket)
    await asyncio.wait_for(finished.wait(), seconds + 10)
    count = len(trips_ns)
    elapsed_ns = time.perf_counter_ns() - start_ns
    p50_us, p99_us = np.percentile(trips_ns, [50, 99]) / 1e3
    node_ns, worker_ns = time.process_time_ns() - node_ns, worker_cpu_ns(transport.pid) - worker_ns
    foreign = max(0.0, (busy_ns() - all_ns - node_ns - worker_ns) / elapsed_ns)
    return Sample(p50_us, p99_us, count / elapsed_ns * 1e9, node_ns / count / 1e3, worker_ns / count / 1e3, foreign)


def report(samples: dict[tuple[str, int, str], list[Sample]]) -> None:
    print("| batch | in flight | transport | p50 µs | p99 µs | batches/s | ratio | spread | node CPU µs | worker CPU |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for (batch, in_flight, name), rows in samples.items():
        middle = {field: statistics.median(getattr(row, field) for row in rows) for field in Sample.__struct_fields__}
        rates = [row.batches_per_s for row in rows]
        # The ratio is taken round by round and then its median: neighbours in time share the same disturbance.
        base = samples[batch, in_flight, REFERENCE]
        spread = (max(rates) - min(rates)) / middle["batches_per_s"]
        ratio = statistics.median(rate / other.batches_per_s for rate, other in zip(rates, base, strict=True))
        print(
            f"| {batch} | {in_flight} | {name} | {middle['p50_us']:,.0f} | {middle['p99_us']:,.0f} "
            f"| {middle['batches_per_s']:,.0f} | {ratio:.2f} | {spread:.0%} "
            f"| {middle['node_cpu_us']:,.0f} | {middle['worker_cpu_us']:,.0f} |"
        )
    foreign = sorted(row.foreign_cores for rows in samples.values() for row in rows)
    print(f"\nNoise: others used {foreign[len(foreign) // 2]:.2f} cores (median phase), at most {foreign[-1]:.2f}.")


async def main(rounds: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    transports = {name: make(loop) for name, make in TRANSPORTS.items()}
    samples: dict[tuple[str, int, str], list[Sample]] = {
        (batch, in_flight, name): [] for batch in BATCHES for in_flight in IN_FLIGHT for name in transports
    }
    try:
        await asyncio.sleep(1)  # the workers import numpy
        for number in range(rounds + 1):
            names = list(transports)
            names = names[number % len(names) :] + names[: number % len(names)]
            for label, rows in BATCHES.items():
                for in_flight in IN_FLIGHT:
                    for name in names:
                        sample = await drive(transports[name], rows, in_flight, seconds)
                        if number > 0:  # the first round only warms up
                            samples[label, in_flight, name].append(sample)
            print(f"round {number} of {rounds} done", file=sys.stderr)
    finally:
        for transport in transports.values():
            transport.close()
    report(samples)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--rounds", type=int, default=9, help="measured rounds, after one that only warms up")
    options.add_argument("--seconds", type=float, default=0.3, help="length of one phase")
    chosen = options.parse_args()
    keep_freed_memory()
    uvloop.run(main(chosen.rounds, chosen.seconds))
