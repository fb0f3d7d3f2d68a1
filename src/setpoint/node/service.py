"""One served model: its queue, its workers, and what happens between them.

The decisions are elsewhere and pure (``scheduling``); here is what they are applied to. Everything runs on the event
loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Sequence
from typing import Any, cast

from setpoint.core import (
    Clock,
    DeadlineExceeded,
    Draining,
    InternalError,
    Limits,
    ModelError,
    NotReady,
    QueueFull,
    SetpointError,
    WorkerLost,
    error_of,
)
from setpoint.node.config import ModelConfig
from setpoint.node.slot import Slot, State
from setpoint.observe import ModelMetrics
from setpoint.scheduling import BatchQueue, BatchSizer, RestartPolicy
from setpoint.worker import (
    CALL_LIMIT_REQUESTS,
    Answered,
    Broken,
    CallRequest,
    Ran,
    Ready,
    Report,
    Request,
    StreamChunk,
    StreamEnd,
    StreamRequest,
    TensorRequest,
    WorkerEvents,
    WorkerHandle,
    WorkerSpec,
)

_log = logging.getLogger("setpoint.node")
Launch = Callable[[WorkerSpec, WorkerEvents, asyncio.AbstractEventLoop], WorkerHandle]
_NS = 1_000_000_000
_SHORT_RUN_NS = 500_000
"""About what the node needs to read and answer 20 small requests."""
_GIVE_UP_AFTER_FAILED_STARTS = 3
"""From then on requests are refused at once instead of waiting for a worker that may never come."""


class ModelService:
    """Takes requests for one model and sees each of them answered exactly once."""

    def __init__(
        self,
        config: ModelConfig,
        limits: Limits,
        clock: Clock,
        on_bug: Callable[[BaseException], str],
        launch: Launch = WorkerHandle,
    ) -> None:
        """Nothing is started yet.

        Args:
            config: the model.
            limits: of the node.
            clock: for deadlines and durations.
            on_bug: logs a bug of ours and returns the reference under which it was logged.
            launch: starts one worker.
        """
        self.config = config
        self.manifest = config.bundle.manifest
        self.metrics = ModelMetrics()
        self.slots = [Slot(index) for index in range(config.workers)]
        self._limits = limits
        self._now_ns = clock.now_ns
        self._on_bug = on_bug
        self._launch = launch
        self._restart = RestartPolicy()
        self._queue: BatchQueue[Request] = BatchQueue(limits.queue_limit_rows)
        self._sizers = {
            endpoint.name: BatchSizer(min(max(1, endpoint.batch_rows), CALL_LIMIT_REQUESTS))
            for endpoint in self.manifest.endpoints
        }
        self._loop: asyncio.AbstractEventLoop
        self._started: asyncio.Future[None]
        self._dispatch_due = False
        self._closing = False
        self._refusing = False
        self._last_failure = ""
        self._rows_per_s = 0.0

    # --- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the workers and wait until every one of them is ready.

        Raises:
            SetpointError: the model cannot be loaded.
        """
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.create_future()
        for slot in self.slots:
            self._start_worker(slot)
        await self._started

    async def close(self) -> None:
        """End the workers. What is not answered by now is refused; a node drains before it closes."""
        self._closing = self._refusing = True
        held = [request for slot in self.slots for request in slot.requests]
        for request in (*held, *self._queue.drain()):
            self._fail(request, Draining("the node was shut down before the request was answered"))
        for slot in self.slots:
            slot.requests = ()
        for slot in self.slots:
            if slot.handle is not None:
                slot.handle.close()
        while any(slot.handle is not None for slot in self.slots):
            await asyncio.sleep(0.005)

    @property
    def name(self) -> str:
        """What clients call the model."""
        return self.config.bundle.name

    @property
    def ready(self) -> bool:
        """Whether some worker can take a batch, now or behind the one it holds."""
        return any(slot.state in (State.IDLE, State.BUSY) for slot in self.slots)

    @property
    def queue_rows(self) -> int:
        """Rows that wait."""
        return self._queue.rows

    # --- requests ------------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        """Take a request. It will be answered or failed, once, unless the client leaves.

        Raises:
            QueueFull: too much waits already.
            NotReady: there is no worker, and none is likely to come soon.
        """
        if self._closing:
            raise Draining("the node is shutting down; send the request to another one")
        if self._refusing:
            raise NotReady(f"model {self.name!r} has no worker: {self._last_failure}", 5.0)
        now_ns = self._now_ns()
        request.arrived_ns = now_ns
        request.deadline_ns = now_ns + int(self._limits.request_timeout_s * _NS)
        if not self._queue.push(request):
            raise self._queue_full()
        self.metrics.accepted += 1
        self._dispatch_soon()

    def cancel(self, request: Request) -> None:
        """The client has left: take its request out of the queue, or forget about its answer."""
        request.gone = True
        if self._queue.remove(request):
            self.metrics.outcomes["cancelled"] += 1
        elif isinstance(request, StreamRequest):
            slot = next((slot for slot in self.slots if request in slot.requests), None)
            if slot is not None and slot.handle is not None:
                slot.handle.cancel(slot.batch)
                self.resume(request)

    def resume(self, request: StreamRequest) -> None:
        """The client of a congested stream has caught up, or left: take events again."""
        slot = next((slot for slot in self.slots if request in slot.requests), None)
        if slot is not None and slot.handle is not None and slot.paused:
            slot.paused = False
            slot.limit_ns = self._now_ns() + int(self._limits.run_timeout_s * _NS)
            slot.handle.resume()

    def sweep(self, now_ns: int) -> None:
        """Called a few times a second: refuse what waited too long, replace workers that take too long."""
        for request in self._queue.expire(now_ns):
            waited_s = (now_ns - request.arrived_ns) / _NS
            self._fail(request, DeadlineExceeded(f"the request waited {waited_s:.1f} s for a worker"))
        for slot in self.slots:
            if slot.handle is not None:
                slot.handle.check()
            if slot.handle is not None and 0 < slot.limit_ns <= now_ns:
                starting = slot.state is State.STARTING
                slot.end_reason = "load_timeout" if starting else "run_timeout"
                slot.limit_ns = 0
                slot.handle.kill()

    def _judge_hope(self) -> None:
        """Decide whether new requests may wait for a worker."""
        hopeless = all(slot.failed_starts >= _GIVE_UP_AFTER_FAILED_STARTS for slot in self.slots)
        self._refusing = self._closing or (hopeless and not self.ready)

    def _queue_full(self) -> QueueFull:
        wait_s = self._queue.rows / self._rows_per_s if self._rows_per_s else 1.0
        return QueueFull(
            f"the queue of model {self.name!r} is full ({self._queue.rows} rows, limit "
            f"{self._limits.queue_limit_rows}); it now computes {self._rows_per_s:.0f} rows/s",
            wait_s,
        )

    # --- dispatch ------------------------------------------------------------------------------------------------

    def _dispatch_soon(self) -> None:
        """Dispatch at the end of this turn of the event loop, so that all that arrives in it shares a batch."""
        if not self._dispatch_due:
            self._dispatch_due = True
            self._loop.call_soon(self._dispatch)

    def _dispatch_after(self, run_ns: int) -> None:
        """A worker became free: give it work at once, unless its batches are so short that the node is the bottleneck.

        Then the requests still to be read in this turn are worth waiting for: fewer, larger batches cost both processes
        less, and a worker idle for a fraction of a turn is not what anybody waits for.
        """
        if run_ns < _SHORT_RUN_NS:
            self._dispatch_soon()
        else:
            self._dispatch()

    def _dispatch(self) -> None:
        self._dispatch_due = False
        for slot in self.slots:
            while slot.state is State.IDLE and self._queue.requests:
                batch = self._queue.take(self._batch_rows)
                if batch:
                    self._send(slot, batch)

    def _batch_rows(self, lane: Hashable) -> int:
        endpoint: str = cast("tuple[str, ...]", lane)[0]
        return self._sizers[endpoint].batch_rows(lane)

    def _send(self, slot: Slot, batch: Sequence[Request]) -> None:
        handle = slot.handle
        assert handle is not None, "an idle slot has a worker"
        number = slot.batch + 1
        first = batch[0]
        try:
            if isinstance(first, TensorRequest):
                signature = self.manifest.signature
                assert signature is not None, "tensor requests are made from the signature"
                sent = handle.run(number, signature.inputs, cast("Sequence[TensorRequest]", batch))
            elif isinstance(first, CallRequest):
                sent = handle.call(number, cast("Sequence[CallRequest]", batch))
            else:
                sent = handle.stream(number, cast(StreamRequest, first))
        except SetpointError as error:
            self._not_together(batch, error)
            return
        if not sent:
            # Nobody saw it, so nobody's retry is spent; ``on_exit`` of that worker follows.
            slot.state = State.DOWN
            for request in reversed(batch):
                self._queue.push_front(request)
            return
        now_ns = self._now_ns()
        slot.batch = number
        slot.requests = batch
        slot.state = State.BUSY
        slot.limit_ns = now_ns + int(self._limits.run_timeout_s * _NS)
        for request in batch:
            request.started_ns = now_ns
            request.attempts += 1

    def _not_together(self, batch: Sequence[Request], error: SetpointError) -> None:
        """A batch failed as a whole: run its requests one by one, so that only the culprit fails."""
        if len(batch) == 1:
            self._fail(batch[0], error)
            return
        for request in reversed(batch):
            if request.gone:
                self.metrics.outcomes["cancelled"] += 1
                continue
            self.metrics.retries += 1
            request.alone = True
            self._queue.push_front(request)

    # --- what workers say ----------------------------------------------------------------------------------------

    def on_report(self, worker: WorkerHandle, report: Report) -> None:
        """A worker said something."""
        slot = next(slot for slot in self.slots if slot.handle is worker)
        match report:
            case Ran():
                self._ran(slot, worker, report)
            case Answered():
                self._answered(slot, worker, report)
            case StreamChunk():
                self._streamed(slot, report)
            case StreamEnd():
                self._stream_ended(slot, report)
            case Ready():
                slot.release()
                self._judge_hope()
                if not self._started.done() and all(slot.state is not State.STARTING for slot in self.slots):
                    self._started.set_result(None)
                self._dispatch()
            case Broken():
                slot.end_reason = "broken"
                self._last_failure = report.message
                if not self._started.done():
                    self._started.set_exception(error_of(report.kind, f"model {self.name!r}: {report.message}"))

    def on_exit(self, worker: WorkerHandle, reason: str) -> None:
        """A worker is gone: answer for what it held and start the next."""
        slot = next(slot for slot in self.slots if slot.handle is worker)
        held = slot.vacate()
        if slot.end_reason == "run_timeout":
            reason = f"did not answer within {self._limits.run_timeout_s:g} s and was ended"
        elif slot.end_reason == "load_timeout":
            reason = f"was not ready within {self._limits.load_timeout_s:g} s and was ended"
        if slot.end_reason != "broken":
            self._last_failure = f"its worker {reason}"
        for request in reversed(held):
            self._lost(request, reason)
        if self._closing:
            return
        _log.warning("worker %d of model %s (pid %d) is gone: %s", slot.index, self.name, worker.pid, reason)
        self.metrics.restarts[slot.end_reason or "died"] += 1
        if not self._started.done():
            self._started.set_exception(ModelError(f"model {self.name!r}: the worker {reason} while it was loading"))
        self._start_later(slot)

    def _start_later(self, slot: Slot) -> None:
        """Start a slot's next worker as soon as the policy says; refuse what waits if that is not likely to help."""
        self._judge_hope()
        if self._refusing:
            for request in self._queue.drain():
                self._fail(request, NotReady(f"model {self.name!r} has no worker: {self._last_failure}", 5.0))
        self._loop.call_later(self._restart.delay_s(slot.failed_starts), self._start_worker, slot)

    def _start_worker(self, slot: Slot) -> None:
        if self._closing:
            return
        spec = WorkerSpec(
            manifest=self.manifest,
            folder=self.config.folder,
            variant=self.manifest.variants[0].name,
            threads=self.config.threads,
            index=slot.index,
            arena_limit_bytes=self._limits.arena_limit_bytes,
        )
        limit_ns = self._now_ns() + int(self._limits.load_timeout_s * _NS)
        try:
            slot.begin(self._launch(spec, self, self._loop), limit_ns)
        except OSError as error:
            # No process or no descriptor was to be had: the machine's state, which may pass.
            self._last_failure = f"a worker process could not be started: {error.strerror or error}"
            _log.warning("model %s: %s", self.name, self._last_failure)
            slot.failed_starts += 1
            self.metrics.restarts["not_started"] += 1
            if not self._started.done():
                self._started.set_exception(ModelError(f"model {self.name!r}: {self._last_failure}"))
            self._start_later(slot)

    def _lost(self, request: Request, reason: str) -> None:
        if request.gone:
            self.metrics.outcomes["cancelled"] += 1
        elif request.attempts < 2 and request.retryable and self._now_ns() < request.deadline_ns:
            self.metrics.retries += 1
            request.alone = True  # it may be what killed the worker: it must not take others with it
            self._queue.push_front(request)
        else:
            tried = "once" if request.attempts == 1 else f"{request.attempts} times"
            self._fail(request, WorkerLost(f"the worker {reason}; the request was tried {tried}"))

    def _ran(self, slot: Slot, worker: WorkerHandle, report: Ran) -> None:
        batch = cast("Sequence[TensorRequest]", slot.release())
        rows = self._batch_done(slot, batch, report.run_ns)
        if report.error_kind:
            self._not_together(batch, error_of(report.error_kind, report.error))
            self._dispatch()
            return
        outputs = worker.read_outputs(report)
        # The worker computes the next batch while this one's answers are written: those lie in the other arena.
        self._dispatch_after(report.run_ns)
        if len(batch) == 1:
            self._deliver(batch[0], outputs, report.run_ns)
            return
        if any(output.shape[:1] != (rows,) for output in outputs):
            shapes = [list(output.shape) for output in outputs]
            self._not_together(batch, ModelError(f"a batch of {rows} rows gave outputs of shapes {shapes}"))
            self._dispatch()
            return
        start = 0
        for request in batch:
            end = start + request.rows
            self._deliver(request, [output[start:end] for output in outputs], report.run_ns)
            start = end

    def _answered(self, slot: Slot, worker: WorkerHandle, report: Answered) -> None:
        batch = cast("Sequence[CallRequest]", slot.release())
        self._batch_done(slot, batch, report.run_ns)
        if report.error_kind:
            self._not_together(batch, error_of(report.error_kind, report.error))
            self._dispatch()
            return
        answers = worker.read_answers(report)
        self._dispatch_after(report.run_ns)
        for request, answer in zip(batch, answers, strict=True):
            if isinstance(answer, bytes):
                self._deliver(request, answer, report.run_ns)
            else:
                self._fail(request, answer)

    def _streamed(self, slot: Slot, report: StreamChunk) -> None:
        request = cast(StreamRequest, slot.requests[0])
        slot.limit_ns = self._now_ns() + int(self._limits.run_timeout_s * _NS)
        slot.streamed.append(report.piece)
        if report.last:
            event = b"".join(slot.streamed)
            slot.streamed.clear()
            if not request.gone:
                request.begun = True
                request.event(event)
                if request.congested and not slot.paused and slot.handle is not None:
                    # Now the worker may wait for the client, as long as the wire lets the client take.
                    slot.paused = True
                    slot.limit_ns = 0
                    slot.handle.pause()

    def _stream_ended(self, slot: Slot, report: StreamEnd) -> None:
        (request,) = cast("Sequence[StreamRequest]", slot.release())
        slot.streamed.clear()
        self._batch_done(slot, (request,), report.run_ns)
        if report.error_kind:
            self._fail(request, error_of(report.error_kind, report.error))
        elif request.gone:
            self.metrics.outcomes["cancelled"] += 1
        else:
            request.end()
            self._count_answered(request, report.run_ns)
        self._dispatch()

    def _batch_done(self, slot: Slot, batch: Sequence[Request], run_ns: int) -> int:
        slot.served = True
        rows = sum([request.rows for request in batch])
        first = batch[0]
        self.metrics.batch_rows.add(rows)
        if not first.alone and isinstance(first.lane, tuple):
            self._sizers[first.endpoint].observe(first.lane, rows, run_ns)
        rows_per_s = rows * _NS / max(run_ns, 1) * len(self.slots)
        self._rows_per_s += 0.05 * (rows_per_s - self._rows_per_s) if self._rows_per_s else rows_per_s
        return rows

    # --- how a request ends --------------------------------------------------------------------------------------

    def _deliver(self, request: TensorRequest | CallRequest, payload: Any, run_ns: int) -> None:
        if request.gone:
            self.metrics.outcomes["cancelled"] += 1
            return
        try:
            request.answer(payload)
        except SetpointError as error:
            self._fail(request, error)
        except Exception as bug:
            # The boundary to the wire: one answer that cannot be written must not take the batch's others with it.
            reference = self._on_bug(bug)
            self._fail(request, InternalError(f"a bug in Setpoint, logged under {reference}"))
        else:
            self._count_answered(request, run_ns)

    def _count_answered(self, request: Request, run_ns: int) -> None:
        metrics = self.metrics
        metrics.outcomes["ok"] += 1
        metrics.queue_ns.add(request.started_ns - request.arrived_ns)
        metrics.run_ns.add(run_ns)
        metrics.total_ns.add(self._now_ns() - request.arrived_ns)

    def _fail(self, request: Request, error: SetpointError) -> None:
        if request.gone:
            self.metrics.outcomes["cancelled"] += 1
            return
        self.metrics.outcomes[error.kind] += 1
        request.fail(error)
