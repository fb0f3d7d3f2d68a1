"""How long a worker takes from being asked for to ready, to its first answer, and to end: new interpreter or forked.

    python benchmarks/lifecycle/worker_start.py build/minilm/encoder.onnx --rounds 10

Each way is tried in turn, round after round, so that what the machine does meanwhile meets all of them alike. The model
is packed as ``setpoint pack`` does it. Memory is the worker's own share (PSS) after its first answer.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from setpoint.machine import pss_bytes
from setpoint.registry import Bundle, Registry, pack_source
from setpoint.worker import ForkServers, Nursery, Ran, Ready, Report, TensorRequest, WorkerHandle, WorkerSpec
from setpoint.worker.nursery import Interpreters

SEQUENCE = 32


@dataclass
class Listener:
    """Keeps what a worker reports."""

    reports: asyncio.Queue[Report | str] = field(default_factory=asyncio.Queue)

    def on_report(self, worker: WorkerHandle, report: Report) -> None:
        self.reports.put_nowait(report)

    def on_exit(self, worker: WorkerHandle, reason: str) -> None:
        self.reports.put_nowait(reason)


async def one_start(bundle: Bundle, folder: Path, nursery: Nursery, threads: int) -> dict[str, float]:
    """Start a worker, ask it once, end it; times in ms, memory in MiB."""
    listener = Listener()
    spec = WorkerSpec(bundle.manifest, folder, (bundle.manifest.variants[0].name,), threads, 0, 1 << 28)
    begun = time.perf_counter()
    worker = WorkerHandle(spec, listener, asyncio.get_running_loop(), nursery)
    blocked_ms = 1e3 * (time.perf_counter() - begun)
    ready = await listener.reports.get()
    if not isinstance(ready, Ready):
        raise SystemExit(f"the worker did not start: {ready}")
    ready_ms = 1e3 * (time.perf_counter() - begun)
    signature = bundle.manifest.signature
    assert signature is not None
    arrays = [
        np.ones([1, *[SEQUENCE if axis < 0 else axis for axis in spec.shape[1:]]], spec.type.dtype)
        for spec in signature.inputs
    ]
    worker.run(1, signature.inputs, [TensorRequest("infer", 1, (), arrays)])
    ran = await listener.reports.get()
    if not isinstance(ran, Ran) or ran.error:
        raise SystemExit(f"the worker did not answer: {ran}")
    answered_ms = 1e3 * (time.perf_counter() - begun)
    memory_mib = pss_bytes(worker.pid) / 2**20
    closed = time.perf_counter()
    worker.close()
    await listener.reports.get()
    return {
        "blocked_ms": blocked_ms,
        "load_ms": ready.load_ms,
        "warmup_ms": ready.warmup_ms,
        "ready_ms": ready_ms,
        "answered_ms": answered_ms,
        "ended_ms": 1e3 * (time.perf_counter() - closed),
        "pss_mib": memory_mib,
    }


async def compare(bundle: Bundle, folder: Path, rounds: int, threads: int) -> None:
    forks = ForkServers()
    ways: dict[str, Nursery] = {"new interpreter": Interpreters(), "forked": forks}
    await one_start(bundle, folder, forks, threads)  # its server's own start is not part of a later worker's
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, nursery in ways.items():
            found[name].append(await one_start(bundle, folder, nursery, threads))
    forks.close()
    print(f"{'':16}" + "".join(f"{key:>14}" for key in found["forked"][0]))
    for name, starts in found.items():
        cells = [[start[key] for start in starts] for key in starts[0]]
        print(f"{name:16}" + "".join(f"{statistics.median(cell):8.1f} ≤{max(cell):5.0f}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        registry = Registry(home)
        bundle = pack_source(options.model, name="model", registry=registry)[0]
        files = ", ".join(f"{file.path} {file.size_bytes / 2**20:.1f} MiB" for file in bundle.files)
        print(f"{files}; medians ≤ largest of {options.rounds}")
        asyncio.run(compare(bundle, registry.folder(bundle), options.rounds, options.threads))


if __name__ == "__main__":
    main()
