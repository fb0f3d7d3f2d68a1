"""One worker process under measurement: the same process that serves, given batches by hand instead of by a node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import Limits, ModelError, ModelManifest, error_of
from setpoint.engines import CPU
from setpoint.machine import rss_bytes
from setpoint.worker import Broken, Ran, Ready, Report, TensorRequest, WorkerHandle, WorkerSpec

Batch = Sequence[NDArray[Any]]
"""One array for each input, in the signature's order."""


class Answered(msgspec.Struct, frozen=True):
    """One batch that ran.

    Attributes:
        run_ms: in the worker, from its inputs in shared memory to its outputs there; what the scheduler predicts.
        through_ms: the same with the way there and back, as whoever sent it sees it.
        outputs: copies, in the signature's order; empty where they were not asked for.
    """

    run_ms: float
    through_ms: float
    outputs: tuple[NDArray[Any], ...] = ()


class Seat:
    """A worker with one variant loaded. Use from one event loop; one batch at a time.

    Attributes:
        load_ms: from the artifact to a loaded engine.
        warmup_ms: the first run.
        device: that it computes on, when it is ready; before, what was asked for.
    """

    def __init__(
        self,
        manifest: ModelManifest,
        folder: Path,
        variant: str,
        threads: int,
        limits: Limits,
        index: int = 0,
        *,
        device: str = CPU,
    ) -> None:
        """Start the process; ``ready`` waits for it."""
        assert manifest.signature is not None, "only models with a tensor signature are measured"
        self._specs = manifest.signature.inputs
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._report: asyncio.Future[Report] = self._loop.create_future()
        self._gone = asyncio.Event()
        self._batch = 0
        self._reason = ""
        self._closing = False
        self.load_ms = self.warmup_ms = 0.0
        self.device = device
        spec = WorkerSpec(manifest, folder, (variant,), threads, index, limits.arena_limit_bytes, device)
        self._handle = WorkerHandle(spec, self, self._loop)

    async def ready(self) -> None:
        """Wait until the variant is loaded and warmed up.

        Raises:
            SetpointError: it cannot be loaded, or not within the limit.
        """
        report = await self._next(self._limits.load_timeout_s, "was not ready")
        if isinstance(report, Broken):
            raise error_of(report.kind, report.message)
        assert isinstance(report, Ready), report
        self.load_ms, self.warmup_ms, self.device = report.load_ms, report.warmup_ms, report.devices[0]

    async def run(self, batch: Batch, *, keep: bool = False) -> Answered:
        """Run one batch.

        Args:
            batch: rows first.
            keep: also copy the outputs.

        Raises:
            ModelError: the model failed, or the process died or hung.
            RequestTooLarge: the batch does not fit the shared memory.
        """
        self._batch += 1
        rows = len(batch[0]) if batch[0].ndim else 1
        self._report = self._loop.create_future()
        start_ns = time.perf_counter_ns()
        if not self._handle.run(self._batch, self._specs, [TensorRequest("", rows, None, batch)]):
            raise ModelError(f"the worker {self._reason or 'is gone'}")
        report = await self._next(self._limits.run_timeout_s, "did not answer")
        through_ms = (time.perf_counter_ns() - start_ns) / 1e6
        assert isinstance(report, Ran), report
        if report.error_kind:
            raise error_of(report.error_kind, report.error)
        outputs = tuple(np.array(array) for array in self._handle.read_outputs(report)) if keep else ()
        return Answered(report.run_ns / 1e6, through_ms, outputs)

    def resident_bytes(self) -> int:
        """What the process holds now."""
        return rss_bytes(self._handle.pid)

    async def close(self) -> None:
        """End the process and wait for its end."""
        self._closing = True
        self._handle.close()
        await self._gone.wait()

    # --- what the handle says -------------------------------------------------------------------------------------

    def on_report(self, worker: WorkerHandle, report: Report) -> None:
        """The worker said something."""
        if not self._report.done():
            self._report.set_result(report)

    def on_exit(self, worker: WorkerHandle, reason: str) -> None:
        """The process is gone."""
        self._reason = reason
        self._gone.set()
        if not self._closing and not self._report.done():
            self._report.set_exception(ModelError(f"the worker {reason}"))

    async def _next(self, limit_s: float, what: str) -> Report:
        try:
            return await asyncio.wait_for(self._report, limit_s)
        except TimeoutError:
            self._handle.kill()
            raise ModelError(f"the worker {what} within {limit_s:g} s and was ended") from None
