"""Measure candidates against one another in real workers: the shell around ``measuring``."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from setpoint.core import (
    Clock,
    Endpoint,
    Limits,
    Lineage,
    ModelError,
    ModelManifest,
    Profile,
    SetpointError,
    Signature,
    TensorSpec,
    Variant,
)
from setpoint.engines import CPU
from setpoint.machine import Machine
from setpoint.optimize.feed import Feed
from setpoint.optimize.measuring import (
    Cell,
    Rules,
    Samples,
    enough,
    next_size,
    paired_latency_gain,
    paired_speedup,
    round_order,
    with_predicted,
    worth_measuring,
    worth_sizes,
)
from setpoint.optimize.seat import Batch, Seat

_VISIT_MS = 80.0
_RUNS_LEAST, _RUNS_MOST = 2, 100
_LONG_RUN_MS = 20.0
_ROUNDS_AT_LEAST = 2
"""Whatever the budget: one visit says nothing about how certain it is."""
_FINDING_SHARE = 0.6
"""Of the budget, for loading and for finding batch sizes; a candidate whose turn has not come by then is left out."""
_NO_TIME = "the budget was spent before its turn came"
_MEMORY_SHARE = 0.5
"""Of the memory available, for all workers that are measured together."""
_WEIGHTS_FACTOR, _PROCESS_BYTES = 3, 120 << 20
"""What a worker is reckoned to need before it was measured: that many times its file, and Python with an engine."""


class Candidate(msgspec.Struct, frozen=True):
    """What is measured: a variant, with so many threads, while so many workers of its kind are busy.

    All workers of a machine are busy when it matters; one measured alone would promise what two cannot keep.
    """

    variant: str
    threads: int
    workers: int

    @property
    def layout(self) -> str:
        """``2×1``: workers × threads."""
        return f"{self.workers}×{self.threads}"


class Measured(msgspec.Struct, frozen=True):
    """What came out for one candidate.

    Attributes:
        profile: None where it could not be measured; ``problem`` says why.
        speedup: best rate over that of the baseline of its layout, the median of comparisons within a round.
        latency_gain: the same of the time for one row.
        rounds: over all cells.
        spread: the largest standard error among its medians, as a share.
    """

    candidate: Candidate
    profile: Profile | None = None
    speedup: float = 1.0
    latency_gain: float = 1.0
    rounds: int = 0
    spread: float = 0.0
    problem: str = ""


Tell = Callable[[str], None]


class Profiler:
    """Measures candidates of one bundle's manifest and folder."""

    def __init__(
        self,
        manifest: ModelManifest,
        folder: Path,
        feed: Feed,
        *,
        hardware: Callable[[str], str],
        clock: Clock,
        limits: Limits | None = None,
        rules: Rules | None = None,
        tell: Tell = lambda text: None,
        stopped: Callable[[], bool] = lambda: False,
        device: str = CPU,
    ) -> None:
        self._device = device
        self._manifest = manifest
        self._folder = folder
        self._feed = feed
        self._hardware = hardware
        self._clock = clock
        self._limits = limits or Limits()
        self._rules = rules or Rules()
        self._tell = tell
        self._stopped = stopped
        self._variants = {variant.name: variant for variant in manifest.variants}

    async def measure(
        self, baseline: Candidate, candidates: Sequence[Candidate], machine: Machine, budget_s: float
    ) -> list[Measured]:
        """Measure a layout: the baseline first in the result, then the candidates in order.

        Args:
            baseline: what ``speedup`` compares with.
            candidates: of the same layout as the baseline.
            machine: whose memory bounds how many are loaded at once.
            budget_s: no new round begins after it; sizes are always found.
        """
        groups = list(self._groups(baseline, candidates, machine))
        results: list[Measured] = []
        for group in groups:
            found = await self._measure_group([baseline, *group], budget_s / len(groups))
            results += found if not results else found[1:]
        return results

    def _groups(
        self, baseline: Candidate, candidates: Sequence[Candidate], machine: Machine
    ) -> Iterator[list[Candidate]]:
        """As many candidates at a time as the memory holds beside the baseline; at least one."""
        left = room = int(machine.memory_available_bytes * _MEMORY_SHARE) - self._reckoned_bytes(baseline)
        group: list[Candidate] = []
        for candidate in candidates:
            needed = self._reckoned_bytes(candidate)
            if group and needed > left:
                yield group
                group, left = [], room
            group.append(candidate)
            left -= needed
        yield group

    def _reckoned_bytes(self, candidate: Candidate) -> int:
        artifact = self._folder / self._variants[candidate.variant].artifact
        size_bytes = sum(file.stat().st_size for file in (artifact, artifact.with_suffix(".weights")) if file.exists())
        return candidate.workers * (_WEIGHTS_FACTOR * size_bytes + _PROCESS_BYTES)

    async def _measure_group(self, group: list[Candidate], budget_s: float) -> list[Measured]:
        start_ns = self._clock.now_ns()
        async with contextlib.AsyncExitStack() as stack:
            empty_bytes = await self._empty_worker_bytes(stack)
            crews: list[list[Seat] | str] = []
            samples, estimates = Samples(), dict[Cell, float]()
            for index, candidate in enumerate(group):
                late = self._stopped() or self._clock.now_ns() - start_ns > _FINDING_SHARE * budget_s * 1e9
                if index and late:
                    crews.append(_NO_TIME)
                    continue
                crew = await self._start(candidate, stack)
                if not isinstance(crew, str):
                    try:
                        estimates |= await self._find_sizes(index, crew, candidate)
                    except SetpointError as error:
                        crew = error.message
                crews.append(crew)
            if isinstance(crews[0], str):
                raise ModelError(f"{group[0].variant} with {group[0].layout} workers × threads: {crews[0]}")
            cells = [cell for cell in _measured_cells(estimates) if not isinstance(crews[cell.candidate], str)]
            rounds = 0
            while not enough(samples, cells, rounds, self._rules):
                for cell in round_order(cells, rounds):
                    crew = crews[cell.candidate]
                    assert not isinstance(crew, str)
                    samples.add(cell, await self._visit(crew, cell.rows, estimates[cell], rounds))
                rounds += 1
                spent_s = (self._clock.now_ns() - start_ns) / 1e9
                self._tell(f"measuring {group[0].layout}: round {rounds}, {spent_s:.0f} s")
                if (self._stopped() or spent_s > budget_s) and rounds >= _ROUNDS_AT_LEAST:
                    break
            sizes = [[cell.rows for cell in estimates if cell.candidate == index] for index in range(len(group))]
            return [
                self._result(group, index, crew, samples, sizes[index], rounds, empty_bytes)
                for index, crew in enumerate(crews)
            ]

    async def _start(self, candidate: Candidate, stack: contextlib.AsyncExitStack) -> list[Seat] | str:
        """Its workers, or why there are none."""
        self._tell(f"loading {candidate.variant}, {candidate.layout}")
        crew = []
        try:
            for index in range(candidate.workers):
                seat = Seat(
                    *(self._manifest, self._folder, candidate.variant, candidate.threads, self._limits, index),
                    device=self._device,
                )
                stack.push_async_callback(seat.close)
                await seat.ready()
                crew.append(seat)
        except SetpointError as error:
            return error.message
        return crew

    async def _find_sizes(self, index: int, crew: list[Seat], candidate: Candidate) -> dict[Cell, float]:
        """Cells worth measuring, with what a batch of each takes about, in milliseconds."""
        rates: dict[int, float] = {}
        times: dict[int, float] = {}
        last_ms = 0.0
        while (size := next_size(rates, last_ms, self._feed.most_rows, self._rules)) is not None:
            self._tell(f"trying {candidate.variant}, {candidate.layout}, {size} rows")
            await self._run_some(crew, size, 1, 0)  # grows the engine's memory to this size
            last_ms = min(await self._run_some(crew, size, 2, 1))
            times[size], rates[size] = last_ms, size / last_ms * 1e3
        return {Cell(index, size): times[size] for size in worth_sizes(rates)}

    async def _visit(self, crew: list[Seat], rows: int, estimate_ms: float, number: int) -> list[float]:
        """Run times of some batches on every worker at once."""
        count = max(_RUNS_LEAST, min(round(_VISIT_MS / estimate_ms), _RUNS_MOST))
        # The first run wakes the caches up; where a run takes long they are but a small part of it.
        waking = 1 if estimate_ms < _LONG_RUN_MS else 0
        by_seat = await self._run_some(crew, rows, count + waking, number)
        each = count + waking
        return [run_ms for start in range(0, len(by_seat), each) for run_ms in by_seat[start + waking : start + each]]

    async def _run_some(self, crew: list[Seat], rows: int, count: int, number: int) -> list[float]:
        """``count`` runs on every worker, all of them busy at the same time; one worker's after the other's."""
        batches = [self._feed.batch(rows, start=number * len(crew) + index) for index in range(len(crew))]

        async def keep_busy(seat: Seat, batch: Batch) -> list[float]:
            return [(await seat.run(batch)).run_ms for _ in range(count)]

        by_seat = await asyncio.gather(*(keep_busy(seat, batch) for seat, batch in zip(crew, batches, strict=True)))
        return [run_ms for runs in by_seat for run_ms in runs]

    def _result(
        self,
        group: list[Candidate],
        index: int,
        crew: list[Seat] | str,
        samples: Samples,
        sizes: list[int],
        rounds: int,
        empty_bytes: int,
    ) -> Measured:
        candidate = group[index]
        if isinstance(crew, str):
            return Measured(candidate, problem=crew)
        cells = sorted((cell for cell in samples.visits if cell.candidate == index), key=lambda cell: cell.rows)
        profile = Profile(
            variant=candidate.variant,
            threads=candidate.threads,
            hardware=self._hardware(self._manifest.variant(candidate.variant).engine),
            latency=with_predicted([samples.point(cell) for cell in cells], sizes),
            memory_bytes=max(0, max(seat.resident_bytes() for seat in crew) - empty_bytes),
            load_ms=min(seat.load_ms for seat in crew),
            warmup_ms=min(seat.warmup_ms for seat in crew),
        )
        return Measured(
            candidate,
            profile,
            speedup=paired_speedup(samples, index, 0),
            latency_gain=paired_latency_gain(samples, index, 0),
            rounds=rounds,
            spread=max(samples.spread(cell) for cell in cells),
        )

    async def _empty_worker_bytes(self, stack: contextlib.AsyncExitStack) -> int:
        """What a worker holds that runs nothing but the smallest graph: Python, numpy and the engine's library."""
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="setpoint-empty-")))
        seat = Seat(_write_empty_model(folder), folder, "empty", 1, self._limits)
        stack.push_async_callback(seat.close)
        await seat.ready()
        return seat.resident_bytes()


def _measured_cells(estimates: dict[Cell, float]) -> list[Cell]:
    """Those of the cells that the law does not say enough about."""
    found = []
    for index in sorted({cell.candidate for cell in estimates}):
        times = {cell.rows: time_ms for cell, time_ms in estimates.items() if cell.candidate == index}
        found += [Cell(index, rows) for rows in worth_measuring(times)]
    return found


def _write_empty_model(folder: Path) -> ModelManifest:
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "empty", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "empty.onnx").write_bytes(model.SerializeToString())
    signature = Signature((TensorSpec("x", "FP32", (-1, 1)),), (TensorSpec("y", "FP32", (-1, 1)),), batched=True)
    return ModelManifest(
        (Endpoint("predict", (), {}, batch_rows=1, signature=signature),),
        (Variant("empty", "onnxruntime", "empty.onnx"),),
        Lineage("none", ""),
    )
