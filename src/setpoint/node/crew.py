"""The workers of one model: started, watched, ended, replaced."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from setpoint.core import Clock, Draining, Limits, ModelError, SetpointError, error_of
from setpoint.node.config import ModelConfig
from setpoint.node.slot import Slot, State
from setpoint.observe import ModelMetrics
from setpoint.scheduling import RestartPolicy
from setpoint.worker import Broken, Ready, Report, Request, WorkerEvents, WorkerHandle, WorkerSpec

_log = logging.getLogger("setpoint.node")
Launch = Callable[[WorkerSpec, WorkerEvents, asyncio.AbstractEventLoop], WorkerHandle]
NS = 1_000_000_000
_GIVE_UP_AFTER_FAILED_STARTS = 3
"""From then on requests are refused at once instead of waiting for a worker that may never come."""


class CrewOwner(Protocol):
    """Whom a crew tells."""

    def worker_ready(self, slot: Slot) -> None:
        """A worker can take batches."""
        ...

    def worker_said(self, slot: Slot, worker: WorkerHandle, report: Report) -> None:
        """A worker reported on its batch."""
        ...

    def worker_gone(self, slot: Slot, held: Sequence[Request], reason: str) -> None:
        """A worker is gone, and these were in its batch."""
        ...

    def no_hope(self, reason: str) -> None:
        """There is no worker, and none is likely to come soon."""
        ...


class Crew:
    """Keeps every slot filled with a worker that answers.

    Attributes:
        slots: one for each worker.
        refusal: why new requests are not even queued; empty while workers are there or likely to come.
        devices: that the variants of the worker that was ready last are on, in their order; empty before.
    """

    def __init__(
        self,
        config: ModelConfig,
        variants: tuple[str, ...],
        limits: Limits,
        clock: Clock,
        metrics: ModelMetrics,
        owner: CrewOwner,
        launch: Launch = WorkerHandle,
    ) -> None:
        """Nothing is started yet; ``variants`` are what each worker holds, ``launch`` starts one worker."""
        self.slots = [Slot(index) for index in range(config.workers)]
        self.refusal = ""
        self.devices: tuple[str, ...] = ()
        self._config = config
        self._variants = variants
        self._limits = limits
        self._now_ns = clock.now_ns
        self._metrics = metrics
        self._owner = owner
        self._launch = launch
        self._restart = RestartPolicy()
        self._loop: asyncio.AbstractEventLoop
        self._started: asyncio.Future[None] | None = None
        self._closing = False
        self._last_failure = ""

    @property
    def ready(self) -> bool:
        """Whether some worker can take a batch, now or behind the one it holds."""
        return any(slot.state in (State.IDLE, State.BUSY) for slot in self.slots)

    async def start(self) -> None:
        """Start the workers and wait until every one of them is ready; also again, when ``close`` has ended them.

        Raises:
            SetpointError: the model cannot be loaded.
        """
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.create_future()
        self._closing = False
        self.refusal = ""
        for slot in self.slots:
            slot.failed_starts = 0
            self._start_worker(slot)
        await self._started

    def close(self) -> None:
        """Tell the workers to end; what they hold is nobody's business any more."""
        self._closing = True
        self._start_is_over(Draining(f"{self._model} was told to end while it was starting"))
        for slot in self.slots:
            if slot.handle is not None:
                slot.handle.close()

    async def ended(self) -> None:
        """Wait until no worker is left."""
        while any(slot.handle is not None for slot in self.slots):
            await asyncio.sleep(0.005)

    def sweep(self, now_ns: int) -> None:
        """Called a few times a second: end workers that take too long."""
        for slot in self.slots:
            if slot.handle is not None:
                slot.handle.check()
            if slot.handle is not None and 0 < slot.limit_ns <= now_ns:
                slot.end_reason = "load_timeout" if slot.state is State.STARTING else "run_timeout"
                slot.limit_ns = 0
                slot.handle.kill()

    # --- what workers say ----------------------------------------------------------------------------------------

    def on_report(self, worker: WorkerHandle, report: Report) -> None:
        """A worker said something."""
        slot = self._slot_of(worker)
        if isinstance(report, Ready):
            slot.release()
            slot.ready_ns = self._now_ns()
            self.devices = tuple(report.devices)
            self._judge_hope()
            if all(slot.state is not State.STARTING for slot in self.slots):
                self._start_is_over()
            self._owner.worker_ready(slot)
        elif isinstance(report, Broken):
            slot.end_reason = "broken"
            self._last_failure = report.message
            self._start_is_over(error_of(report.kind, f"{self._model}: {report.message}"))
        else:
            self._owner.worker_said(slot, worker, report)

    def on_exit(self, worker: WorkerHandle, reason: str) -> None:
        """A worker is gone: what it held is lost; start the next."""
        slot = self._slot_of(worker)
        held = slot.vacate(self._now_ns())
        if slot.end_reason == "run_timeout":
            reason = f"did not answer within {self._limits.run_timeout_s:g} s and was ended"
        elif slot.end_reason == "load_timeout":
            reason = f"was not ready within {self._limits.load_timeout_s:g} s and was ended"
        if slot.end_reason == "broken":
            reason = f"could not load the model: {self._last_failure}"
        else:
            self._last_failure = f"its worker {reason}"
        self._owner.worker_gone(slot, held, reason)
        if self._closing:
            return
        _log.warning("worker %d of %s (pid %d) %s", slot.index, self._model, worker.pid, reason)
        self._metrics.restarts[slot.end_reason or "died"] += 1
        self._start_failed(f"the worker {reason} while it was loading")
        self._start_later(slot)

    # --- inside --------------------------------------------------------------------------------------------------

    @property
    def _model(self) -> str:
        return f"model {self._config.bundle.name!r}"

    def _slot_of(self, worker: WorkerHandle) -> Slot:
        for slot in self.slots:
            if slot.handle is worker:
                return slot
        raise AssertionError("who tells us is one of ours")

    def _start_is_over(self, error: SetpointError | None = None) -> None:
        """Tell whoever waits in ``start``, if anybody still does."""
        if self._started is None or self._started.done():
            return
        if error is None:
            self._started.set_result(None)
        else:
            self._started.set_exception(error)

    def _start_failed(self, reason: str) -> None:
        self._start_is_over(ModelError(f"{self._model}: {reason}"))

    def _judge_hope(self) -> None:
        """Decide whether new requests may wait for a worker."""
        hopeless = all(slot.failed_starts >= _GIVE_UP_AFTER_FAILED_STARTS for slot in self.slots) and not self.ready
        # Text, not an error to be raised again and again: that would collect the frames of everybody it refused.
        self.refusal = f"{self._model} has no worker: {self._last_failure}" if hopeless else ""

    def _start_later(self, slot: Slot) -> None:
        """Start a slot's next worker as soon as the policy says."""
        self._judge_hope()
        if self.refusal:
            self._owner.no_hope(self.refusal)
        self._loop.call_later(self._restart.delay_s(slot.failed_starts), self._start_worker, slot)

    def _start_worker(self, slot: Slot) -> None:
        if self._closing or slot.handle is not None:  # a timer from before the last ``close`` comes too late
            return
        manifest = self._config.bundle.manifest
        spec = WorkerSpec(
            manifest=manifest,
            folder=self._config.folder,
            variants=self._variants,
            threads=self._config.threads,
            index=slot.index,
            arena_limit_bytes=self._limits.arena_limit_bytes,
            device=self._config.device,
        )
        limit_ns = self._now_ns() + int(self._limits.load_timeout_s * NS)
        try:
            slot.begin(self._launch(spec, self, self._loop), limit_ns)
        except OSError as error:
            # No process or no descriptor was to be had: the machine's state, which may pass.
            self._last_failure = f"a worker process could not be started: {error.strerror or error}"
            _log.warning("%s: %s", self._model, self._last_failure)
            slot.failed_starts += 1
            self._metrics.restarts["not_started"] += 1
            self._start_failed(self._last_failure)
            self._start_later(slot)
