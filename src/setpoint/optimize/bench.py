"""One variant in the worker that serves it, beside the same engine in a plain loop, measured in turn."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from setpoint.core import Clock, LatencyPoint, Limits, ModelError, ModelManifest
from setpoint.engines import CPU
from setpoint.optimize.feed import Examples, Feed
from setpoint.optimize.measuring import Cell, Rules, Samples, enough, next_size, round_order, worth_sizes
from setpoint.optimize.seat import Seat

_ALONE, _WORKER, _THROUGH = 0, 1, 2
_VISIT_MS = 80.0
_RUNS_LEAST, _RUNS_MOST = 2, 200
_LINE_LIMIT_BYTES = 1 << 20


class BenchRow(msgspec.Struct, frozen=True):
    """One batch size.

    Attributes:
        alone: the engine in a plain loop.
        worker: its run in the worker, inputs and outputs in shared memory included.
        through: as the node sees it: sent, run, answered.
    """

    alone: LatencyPoint
    worker: LatencyPoint
    through: LatencyPoint


class BenchResult(msgspec.Struct, frozen=True):
    """What came out.

    Attributes:
        device: that it was measured on.
        rows: by batch size, ascending.
        load_ms, warmup_ms: of the worker.
        memory_bytes: resident in the worker at the end.
        rounds: over all sizes.
        spread: the largest standard error among the medians, as a share.
    """

    variant: str
    threads: int
    device: str
    rows: tuple[BenchRow, ...]
    load_ms: float
    warmup_ms: float
    memory_bytes: int
    rounds: int
    spread: float


class Plan(msgspec.Struct, frozen=True):
    """What to load: a variant of the manifest whose files lie in ``folder``, and rows to run (``.npz``)."""

    manifest: ModelManifest
    folder: str
    variant: str
    threads: int
    rows: str
    device: str


class Order(msgspec.Struct, frozen=True):
    """How often to run a batch of how many rows."""

    rows: int
    count: int
    number: int


async def bench(
    manifest: ModelManifest,
    folder: Path,
    variant: str,
    threads: int,
    examples: Examples,
    *,
    clock: Clock,
    budget_s: float,
    tell: Callable[[str], None] = lambda text: None,
    rules: Rules | None = None,
    device: str = CPU,
) -> BenchResult:
    """Measure one variant at the batch sizes that pay, on a device or the first of several.

    Raises:
        SetpointError: it cannot be loaded, or fails.
    """
    signature, endpoint = manifest.signature, manifest.tensor_endpoint
    assert signature is not None
    assert endpoint is not None
    rules = rules or Rules()
    feed = Feed(examples.arrays, signature, endpoint.batch_rows)
    start_ns = clock.now_ns()
    async with contextlib.AsyncExitStack() as stack:
        tell(f"loading {variant}")
        seat = Seat(manifest, folder, variant, threads, Limits(), device=device)
        stack.push_async_callback(seat.close)
        await seat.ready()
        with_rows = stack.enter_context(tempfile.TemporaryDirectory(prefix="setpoint-bench-"))
        plan = Plan(manifest, str(folder), variant, threads, str(Path(with_rows) / "rows.npz"), seat.device)
        loop = await _Loop.start(plan, examples)
        stack.push_async_callback(loop.close)
        samples = Samples()

        async def visit(cell: Cell, count: int, number: int) -> list[float]:
            """Run times of the engine alone, or in the worker; the latter's way there and back is noted as well."""
            if cell.candidate == _ALONE:
                return await loop.run(Order(cell.rows, count, number))
            answers = [await seat.run(feed.batch(cell.rows, number)) for _ in range(count)]
            if number:
                samples.add(Cell(_THROUGH, cell.rows), [answer.through_ms for answer in answers[1:]])
            return [answer.run_ms for answer in answers]

        rates: dict[int, float] = {}
        times: dict[int, float] = {}
        last_ms = 0.0
        while (size := next_size(rates, last_ms, feed.most_rows, rules)) is not None:
            tell(f"trying {size} rows")
            await visit(Cell(_ALONE, size), 2, 0)
            last_ms = min(await visit(Cell(_WORKER, size), 3, 0))
            times[size], rates[size] = last_ms, size / last_ms * 1e3
        cells = [Cell(kind, size) for size in worth_sizes(rates) for kind in (_ALONE, _WORKER)]
        rounds = 0
        while not enough(samples, cells, rounds, rules):
            for cell in round_order(cells, rounds):
                count = max(_RUNS_LEAST, min(_RUNS_MOST, round(_VISIT_MS / times[cell.rows])))
                samples.add(cell, (await visit(cell, count + 1, rounds + 1))[1:])
            rounds += 1
            spent_s = (clock.now_ns() - start_ns) / 1e9
            tell(f"measuring: round {rounds}, {spent_s:.0f} s")
            if spent_s > budget_s and rounds >= 2:
                break
        return BenchResult(
            variant,
            threads,
            seat.device,
            tuple(BenchRow(*(samples.point(Cell(kind, size)) for kind in range(3))) for size in worth_sizes(rates)),
            seat.load_ms,
            seat.warmup_ms,
            seat.resident_bytes(),
            rounds,
            max(samples.spread(cell) for cell in cells),
        )


class _Loop:
    """The process of ``raw``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, plan: Plan, examples: Examples) -> _Loop:
        signature = plan.manifest.signature
        assert signature is not None
        columns: dict[str, Any] = {
            spec.name: array for spec, array in zip(signature.inputs, examples.arrays, strict=True)
        }
        np.savez(plan.rows, **columns)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "setpoint.optimize.raw"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT_BYTES,
            env={**os.environ, "ORT_DISABLE_TELEMETRY": os.environ.get("ORT_DISABLE_TELEMETRY", "1")},
        )
        loop = cls(process)
        loop._send(plan)
        return loop

    async def run(self, order: Order) -> list[float]:
        assert self._process.stdout is not None
        self._send(order)
        line = await self._process.stdout.readline()
        if not line:
            raise ModelError("the engine in a plain loop ended before it answered")
        return msgspec.json.decode(line, type=list[float])

    async def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    def _send(self, record: Plan | Order) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(record) + b"\n")


def efficiency(result: BenchResult) -> float:
    """Best rate through the worker over the best rate of the engine alone."""
    through, alone = (max(getattr(row, kind).rows_per_s for row in result.rows) for kind in ("through", "alone"))
    return float(through / alone)


def median_overhead_ms(result: BenchResult) -> float:
    """What the way to the worker and back adds to a batch's run, the median over sizes."""
    return statistics.median(row.through.p50_ms - row.worker.p50_ms for row in result.rows)
