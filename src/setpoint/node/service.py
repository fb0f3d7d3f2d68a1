"""One served model: its queue, its workers, and what happens between them.

The decisions are elsewhere and pure (``scheduling``); here is what they are applied to. Everything runs on the event
loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

from setpoint.core import (
    Clock,
    DeadlineExceeded,
    Draining,
    Limits,
    ModelError,
    NotReady,
    SetpointError,
    WorkerLost,
    error_of,
)
from setpoint.machine import read_machine
from setpoint.node.backlog import Backlog
from setpoint.node.config import ModelConfig
from setpoint.node.crew import NS, Crew, Launch
from setpoint.node.ledger import Ledger
from setpoint.node.slot import Slot, State
from setpoint.observe import ModelMetrics
from setpoint.wire import BatchOutputs
from setpoint.worker import (
    Answered,
    CallRequest,
    Ran,
    Report,
    Request,
    StreamChunk,
    StreamEnd,
    StreamRequest,
    TensorRequest,
    WorkerHandle,
)

_COME_BACK_S = 5.0
"""When to ask again for a model that has no worker."""
_SHORT_RUN_NS = 500_000
"""About what the node needs to read and answer 20 small requests."""


_LOOK_RUN_NS = 60_000
"""A lone request whose run is shorter than this is waited for on the spot: it costs less than being woken."""
_LOOK_NS = 120_000
"""How long at most; every other client waits meanwhile."""


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
        self._limits = limits
        self._now_ns = clock.now_ns
        self._ledger = Ledger(self.metrics, clock.now_ns, on_bug)
        self._crew = Crew(config, limits, clock, self.metrics, self, launch)
        self._backlog = Backlog(config.bundle.name, self.manifest.endpoints, limits, config.workers)
        self._queue = self._backlog.queue
        self._loop: asyncio.AbstractEventLoop
        self._looks = read_machine().cores > 1  # with one core, looking would keep the worker from running
        self._dispatch_due = False
        self._closing = False

    # --- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the workers and wait until every one of them is ready.

        Raises:
            SetpointError: the model cannot be loaded.
        """
        self._loop = asyncio.get_running_loop()
        await self._crew.start()

    async def close(self) -> None:
        """End the workers and wait until they have ended. A node drains before it closes."""
        self.abandon()
        await self._crew.ended()

    def abandon(self) -> None:
        """Refuse what is not answered by now, and tell the workers to end."""
        self._closing = True
        held = [request for slot in self.slots for request in slot.requests]
        for request in (*held, *self._queue.drain()):
            self._ledger.fail(request, Draining("the node was shut down before the request was answered"))
        for slot in self.slots:
            slot.requests = ()
        self._crew.close()

    @property
    def name(self) -> str:
        """What clients call the model."""
        return self.config.bundle.name

    @property
    def ready(self) -> bool:
        """Whether some worker can take a batch, now or behind the one it holds."""
        return self._crew.ready

    @property
    def slots(self) -> Sequence[Slot]:
        """The places of its workers."""
        return self._crew.slots

    @property
    def queue_rows(self) -> int:
        """Rows that wait."""
        return self._queue.rows

    @property
    def in_flight(self) -> int:
        """Requests that wait or are in a worker. Counted where they are, so that the metrics can be checked with it."""
        return self._queue.requests + sum(len(slot.requests) for slot in self.slots)

    # --- requests ------------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        """Take a request. It will be answered or failed, once, unless the client leaves.

        Raises:
            QueueFull: too much waits already.
            NotReady: there is no worker, and none is likely to come soon.
            Draining: the node is shutting down.
        """
        if self._closing:
            raise Draining("the node is shutting down; send the request to another one")
        if self._crew.refusal:
            raise NotReady(self._crew.refusal, _COME_BACK_S)
        now_ns = self._now_ns()
        request.arrived_ns = now_ns
        request.deadline_ns = now_ns + int(self._limits.request_timeout_s * NS)
        self._backlog.push(request)
        self.metrics.accepted += 1
        self._dispatch_soon()

    def cancel(self, request: Request) -> None:
        """The client has left: take its request out of the queue, or forget about its answer."""
        request.gone = True
        if self._queue.remove(request):
            self._ledger.cancelled(request)
        elif isinstance(request, StreamRequest):
            slot = self._slot_with(request)
            if slot is not None and slot.handle is not None:
                slot.handle.cancel(slot.batch)
                self.resume(request)

    def resume(self, request: StreamRequest) -> None:
        """The client of a congested stream has caught up, or left: take events again."""
        slot = self._slot_with(request)
        if slot is not None and slot.handle is not None and slot.paused:
            slot.paused = False
            slot.limit_ns = self._run_limit_ns()
            slot.handle.resume()

    def sweep(self, now_ns: int) -> None:
        """Called a few times a second: refuse what waited too long, replace workers that take too long."""
        for request in self._queue.expire(now_ns):
            waited_s = (now_ns - request.arrived_ns) / NS
            self._ledger.fail(request, DeadlineExceeded(f"the request waited {waited_s:.1f} s for a worker"))
        self._crew.sweep(now_ns)

    def _slot_with(self, request: Request) -> Slot | None:
        return next((slot for slot in self.slots if request in slot.requests), None)

    def _run_limit_ns(self) -> int:
        return self._now_ns() + int(self._limits.run_timeout_s * NS)

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
                batch = self._backlog.take()
                if batch:
                    self._send(slot, batch)

    def _send(self, slot: Slot, batch: Sequence[Request]) -> None:
        handle = slot.handle
        assert handle is not None, "an idle slot has a worker"
        number = slot.batch + 1
        first = batch[0]
        lone = self._looks and len(batch) == 1 and not self._queue.requests
        try:
            if isinstance(first, TensorRequest):
                signature = self.manifest.signature
                assert signature is not None, "tensor requests are made from the signature"
                sent = handle.run(number, signature.inputs, cast("Sequence[TensorRequest]", batch), lone=lone)
            elif isinstance(first, CallRequest):
                sent = handle.call(number, cast("Sequence[CallRequest]", batch), lone=lone)
            else:
                sent = handle.stream(number, cast(StreamRequest, first))
        except SetpointError as error:
            self._not_together(batch, error)
            return
        except Exception as bug:
            self._ledger.fail_for_bug(batch, bug)
            return
        if not sent:
            # Nobody saw it, so nobody's retry is spent; the end of that worker is told next.
            slot.state = State.DOWN
            for request in reversed(batch):
                self._queue.push_front(request)
            return
        now_ns = self._now_ns()
        slot.batch = number
        slot.requests = batch
        slot.state = State.BUSY
        slot.limit_ns = now_ns + int(self._limits.run_timeout_s * NS)
        for request in batch:
            request.started_ns = now_ns
            request.attempts += 1
        if lone and 0 < slot.lone_run_ns < _LOOK_RUN_NS:
            handle.await_report(_LOOK_NS)

    def _not_together(self, batch: Sequence[Request], error: SetpointError) -> None:
        """A batch failed as a whole: run its requests one by one, so that only the culprit fails."""
        if len(batch) == 1:
            self._ledger.fail(batch[0], error)
            return
        for request in reversed(batch):
            if request.gone:
                self._ledger.cancelled(request)
            else:
                self._again_alone(request)

    def _again_alone(self, request: Request) -> None:
        self.metrics.retries += 1
        request.alone = True
        self._queue.push_front(request)

    # --- what the crew says --------------------------------------------------------------------------------------

    def worker_ready(self) -> None:
        """A worker can take batches."""
        self._dispatch()

    def requests_lost(self, requests: Sequence[Request], reason: str) -> None:
        """A worker is gone: its requests run once more, each alone, since one of them may be what ended it."""
        for request in reversed(requests):
            if request.gone:
                self._ledger.cancelled(request)
            elif request.attempts < 2 and request.retryable and self._now_ns() < request.deadline_ns:
                self._again_alone(request)
            else:
                tried = "once" if request.attempts == 1 else f"{request.attempts} times"
                self._ledger.fail(request, WorkerLost(f"the worker {reason}; the request was tried {tried}"))
        self._dispatch_soon()  # another worker may be idle

    def no_hope(self, reason: str) -> None:
        """Refuse what waits."""
        for request in self._queue.drain():
            self._ledger.fail(request, NotReady(reason, _COME_BACK_S))

    def worker_said(self, slot: Slot, worker: WorkerHandle, report: Report) -> None:
        """A worker reported on its batch."""
        held = slot.requests
        try:
            match report:
                case Ran():
                    self._ran(slot, worker, report)
                case Answered():
                    self._answered(slot, worker, report)
                case StreamChunk():
                    self._streamed(slot, report)
                case StreamEnd():
                    self._stream_ended(slot, report)
        except Exception as bug:
            self._ledger.fail_for_bug([request for request in held if not request.waiting], bug)

    def _ran(self, slot: Slot, worker: WorkerHandle, report: Ran) -> None:
        batch = cast("Sequence[TensorRequest]", slot.release())
        rows = self._batch_done(slot, batch, report.run_ns)
        if report.error_kind:
            self._not_together(batch, error_of(report.error_kind, report.error))
            self._dispatch()
            return
        arrays = worker.read_outputs(report)
        together = len(batch) > 1
        if together and any(array.shape[:1] != (rows,) for array in arrays):
            shapes = [list(array.shape) for array in arrays]
            self._not_together(batch, ModelError(f"a batch of {rows} rows gave outputs of shapes {shapes}"))
            self._dispatch()
            return
        # The worker computes the next batch while this one's answers are written: those lie in the other arena.
        self._dispatch_after(report.run_ns)
        outputs = BatchOutputs(arrays, together=together)
        start = 0
        for request in batch:
            end = start + request.rows
            self._ledger.outputs(request, outputs, start, end, report.run_ns)
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
                self._ledger.json(request, answer, report.run_ns)
            else:
                self._ledger.fail(request, answer)

    def _streamed(self, slot: Slot, report: StreamChunk) -> None:
        request = cast(StreamRequest, slot.requests[0])
        slot.limit_ns = self._run_limit_ns()
        slot.streamed.append(report.piece)
        if report.last:
            event = b"".join(slot.streamed)
            slot.streamed.clear()
            if not request.gone and not request.ended:
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
            self._ledger.fail(request, error_of(report.error_kind, report.error))
        else:
            self._ledger.stream_end(request, report.run_ns)
        self._dispatch()

    def _batch_done(self, slot: Slot, batch: Sequence[Request], run_ns: int) -> int:
        slot.served = True
        rows = sum([request.rows for request in batch])
        self.metrics.batch_rows.add(rows)
        if len(batch) == 1:
            slot.lone_run_ns = run_ns
        self._backlog.observe(batch, rows, run_ns)
        return rows
