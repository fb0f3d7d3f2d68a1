"""Between a model's scheduler and its workers: batches go out as it says, and what workers report comes back to it.

What runs together, when, and who is refused is decided in ``scheduling``, which is pure; here it is applied. Everything
runs on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import cast

from setpoint.core import Clock, Limits, ModelError, ModelManifest, NotReady, SetpointError, WorkerLost, error_of
from setpoint.machine import read_machine
from setpoint.node.crew import NS
from setpoint.node.ledger import Ledger
from setpoint.node.refusals import refusal_error
from setpoint.node.slot import Slot, State
from setpoint.observe import ModelMetrics
from setpoint.scheduling import Reason, Refuse, Scheduler, Start
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

COME_BACK_S = 5.0
"""When to ask again for a model that has no worker."""
_SHORT_RUN_NS = 500_000
"""About what the node needs to read and answer 20 small requests."""
_LOOK_RUN_NS = 60_000
"""A lone request whose run is shorter than this is waited for on the spot: it costs less than being woken."""
_LOOK_NS = 120_000
"""How long at most; every other client waits meanwhile."""
_TOO_LATE = (Reason.EXPIRED, Reason.NO_WORKER)
"""What became of a request that was lost with its worker: that is why it is late."""


class Dispatch:
    """Gives each batch to its worker, and each of its requests an end.

    Attributes:
        scheduler: what decides.
        slots: the places of the workers.
        looks: whether a lone request's answer may be looked for instead of slept for.
        due: at the end of this turn of the event loop it is dispatched.
    """

    def __init__(
        self,
        model: str,
        manifest: ModelManifest,
        variants: Sequence[str],
        scheduler: Scheduler[Request],
        ledger: Ledger,
        metrics: ModelMetrics,
        limits: Limits,
        clock: Clock,
    ) -> None:
        """Have no workers yet; ``variants`` are named as the scheduler counts them."""
        self.scheduler = scheduler
        self.slots: Sequence[Slot] = ()
        self.looks = read_machine().cores > 1  # with one core, looking would keep the worker from running
        self._model = model
        signature = manifest.signature
        self._inputs = signature.inputs if signature is not None else ()
        self._variants = variants
        self._ledger = ledger
        self._metrics = metrics
        self._run_timeout_ns = int(limits.run_timeout_s * NS)
        self._now_ns = clock.now_ns
        self._loop: asyncio.AbstractEventLoop
        self.due = False
        self._waking: asyncio.TimerHandle | None = None
        self._lost_because = ""

    def begin(self, slots: Sequence[Slot]) -> None:
        """Work on the running event loop, with these workers."""
        self._loop = asyncio.get_running_loop()
        self.slots = slots

    def abandon(self, error: SetpointError) -> None:
        """Fail whatever waits or runs with this error."""
        held = [request for slot in self.slots for request in slot.requests]
        waiting = [refusal.request for refusal in self.scheduler.drain()]
        for request in (*held, *waiting):
            self._ledger.fail(request, error)
        for slot in self.slots:
            self.scheduler.batch_ended(slot.index, slot.requests)
            slot.requests = ()

    def soon(self) -> None:
        """Dispatch at the end of this turn of the event loop, so that all that arrives in it shares a batch."""
        if not self.due:
            self.due = True
            self._loop.call_soon(self.now)

    def now(self) -> None:
        """Ask the scheduler what to do now, and do it."""
        self.due = False
        for action in self.scheduler.decide(self._now_ns()):
            if isinstance(action, Start):
                self._send(self.slots[action.worker], action)
            elif isinstance(action, Refuse):
                self._refuse(action)
            else:
                self._wake_at(action.time_ns)

    def _wake_at(self, time_ns: int) -> None:
        if self._waking is not None:
            self._waking.cancel()
        self._waking = self._loop.call_later(max(0, time_ns - self._now_ns()) / NS, self.now)

    def _refuse(self, refusal: Refuse[Request]) -> None:
        request = refusal.request
        if refusal.reason is Reason.WORKER_LOST or (request.attempts and refusal.reason in _TOO_LATE):
            tried = "once" if request.attempts == 1 else f"{request.attempts} times"
            self._ledger.fail(request, WorkerLost(f"the worker {self._lost_because}; the request was tried {tried}"))
        else:
            self._ledger.fail(request, refusal_error(self._model, refusal))

    def _send(self, slot: Slot, start: Start[Request]) -> None:
        handle = slot.handle
        assert handle is not None, "the scheduler knows of workers that are there"
        batch = start.requests
        number = slot.batch + 1
        first = batch[0]
        lone = self.looks and len(batch) == 1 and not self.scheduler.waiting_requests
        slot.began_ns = self._now_ns()
        try:
            if isinstance(first, TensorRequest):
                tensors = cast("Sequence[TensorRequest]", batch)
                sent = handle.run(number, self._inputs, tensors, variant=start.variant, lone=lone)
            elif isinstance(first, CallRequest):
                sent = handle.call(number, cast("Sequence[CallRequest]", batch), lone=lone)
            else:
                sent = handle.stream(number, cast(StreamRequest, first))
        except SetpointError as error:
            self._not_together(slot, batch, error)
            return
        except Exception as bug:
            self.scheduler.batch_ended(slot.index, batch)
            self._ledger.fail_for_bug(batch, bug)
            self.soon()
            return
        if not sent:
            # Nobody saw it, so nobody's retry is spent; the end of that worker is told next.
            slot.state = State.DOWN
            self.scheduler.worker_deaf(slot.index, self._now_ns())
            self._write_off_gone(batch)
            self.soon()
            return
        now_ns = self._now_ns()
        slot.batch = number
        slot.requests = batch
        slot.state = State.BUSY
        slot.sent_ns = now_ns
        slot.limit_ns = now_ns + self._run_timeout_ns
        variant = self._variants[start.variant]
        for request in batch:
            request.started_ns = now_ns
            request.variant = variant
        if lone and 0 < slot.lone_run_ns < _LOOK_RUN_NS:
            handle.await_report(_LOOK_NS)

    def _not_together(self, slot: Slot, batch: Sequence[Request], error: SetpointError) -> None:
        """A batch failed as a whole: run its requests one by one, so that only the culprit fails."""
        for request in self.scheduler.batch_failed(slot.index, self._now_ns()):
            self._ledger.fail(request, error)
        self._count_retries(batch)
        self.soon()

    def _count_retries(self, batch: Sequence[Request]) -> None:
        self._metrics.retries += sum([request.waiting for request in batch])
        self._write_off_gone(batch)

    def _write_off_gone(self, batch: Iterable[Request]) -> None:
        for request in batch:
            if request.gone:
                self._ledger.cancelled(request)

    # --- what the crew says --------------------------------------------------------------------------------------

    def worker_ready(self, slot: Slot) -> None:
        """A worker can take batches."""
        self.scheduler.worker_ready(slot.index)
        self.now()

    def worker_gone(self, slot: Slot, held: Sequence[Request], reason: str) -> None:
        """A worker is gone: its requests run once more, each alone, since one of them may be what ended it."""
        self._lost_because = reason
        self.scheduler.worker_lost(slot.index, self._now_ns())
        self._count_retries(held)
        self.now()  # those that cannot be tried again are refused; another worker may be idle

    def no_hope(self, reason: str) -> None:
        """Refuse what waits."""
        for refusal in self.scheduler.drain():
            self._ledger.fail(refusal.request, NotReady(reason, COME_BACK_S))

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
            self.scheduler.batch_ended(slot.index, held)
            self._ledger.fail_for_bug([request for request in held if not request.waiting], bug)
            self.soon()

    def _ran(self, slot: Slot, worker: WorkerHandle, report: Ran) -> None:
        batch = cast("Sequence[TensorRequest]", slot.release())
        slot.served = True
        if report.error_kind:
            self._not_together(slot, batch, error_of(report.error_kind, report.error))
            return
        arrays = worker.read_outputs(report)
        together = len(batch) > 1
        rows = sum([request.rows for request in batch]) if together else batch[0].rows
        if together and any(array.shape[:1] != (rows,) for array in arrays):
            shapes = [list(array.shape) for array in arrays]
            self._not_together(slot, batch, ModelError(f"a batch of {rows} rows gave outputs of shapes {shapes}"))
            return
        # The worker computes the next batch while this one's answers are written: those lie in the other arena.
        self._batch_done(slot, rows, report.run_ns)
        outputs = BatchOutputs(arrays, together=together, single=together and rows == len(batch))
        if together:
            self._ledger.batch(batch, outputs, report.run_ns)
        else:
            self._ledger.outputs(batch[0], outputs, 0, rows, report.run_ns)

    def _answered(self, slot: Slot, worker: WorkerHandle, report: Answered) -> None:
        batch = cast("Sequence[CallRequest]", slot.release())
        slot.served = True
        if report.error_kind:
            self._not_together(slot, batch, error_of(report.error_kind, report.error))
            return
        answers = worker.read_answers(report)
        self._batch_done(slot, sum([request.rows for request in batch]), report.run_ns)
        for request, answer in zip(batch, answers, strict=True):
            if isinstance(answer, bytes):
                self._ledger.json(request, answer, report.run_ns)
            else:
                self._ledger.fail(request, answer)

    def _streamed(self, slot: Slot, report: StreamChunk) -> None:
        request = cast(StreamRequest, slot.requests[0])
        slot.limit_ns = self._now_ns() + self._run_timeout_ns
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
        slot.served = True
        self._batch_done(slot, 1, report.run_ns)
        if report.error_kind:
            self._ledger.fail(request, error_of(report.error_kind, report.error))
        else:
            self._ledger.stream_end(request, report.run_ns)

    def _batch_done(self, slot: Slot, rows: int, run_ns: int) -> None:
        """A worker is free again: give it work at once, unless batches are so short that the node is the bottleneck.

        Then the requests still to be read in this turn are worth waiting for: fewer, larger batches cost both processes
        less, and a worker idle for a fraction of a turn is not what anybody waits for. If as many wait as have just
        run, that batch is large enough: the worker computes it while these answers are written (a seventh more
        requests/s at 8 connections, a quarter at 4).
        """
        now_ns = self._now_ns()
        batch = self.scheduler.batch_done(slot.index, run_ns, now_ns)
        span_ns, input_ns = now_ns - slot.began_ns, slot.sent_ns - slot.began_ns
        requests = len(batch.requests)
        self._metrics.batches.add(rows, now_ns, run_ns, span_ns, input_ns, batch.predicted_ns, requests)
        if requests == 1:
            slot.lone_run_ns = run_ns
        if run_ns < _SHORT_RUN_NS and self.scheduler.waiting_requests < requests:
            self.soon()
        else:
            self.now()

    # --- streams ---------------------------------------------------------------------------------------------------

    def cancel_stream(self, request: StreamRequest) -> None:
        """The client of a stream has left: tell its worker, and let it go on if it waits."""
        slot = self._slot_with(request)
        if slot is not None and slot.handle is not None:
            slot.handle.cancel(slot.batch)
            self.resume(request)

    def resume(self, request: StreamRequest) -> None:
        """The client of a congested stream has caught up, or left: take events again."""
        slot = self._slot_with(request)
        if slot is not None and slot.handle is not None and slot.paused:
            slot.paused = False
            slot.limit_ns = self._now_ns() + self._run_timeout_ns
            slot.handle.resume()

    def _slot_with(self, request: Request) -> Slot | None:
        return next((slot for slot in self.slots if request in slot.requests), None)
