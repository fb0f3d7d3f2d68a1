"""Any order of events: every accepted request ends exactly once, and the counters say so at every step."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from scripted import BATCH_ROWS, Call, Scene, Stream, Tensors

from setpoint.core import QueueFull, RefusedError, WorkerLost
from setpoint.node.slot import State
from setpoint.worker import StreamRequest

picks = st.integers(0, 2**16)


class ServiceRules(RuleBasedStateMachine):
    """Workers and clients do whatever they can do, in any order."""

    @initialize(workers=st.integers(1, 3), brisk=st.booleans())
    def begin(self, workers: int, brisk: bool) -> None:
        limits = {"queue_limit_rows": 40, "request_timeout_s": 5, "run_timeout_s": 2, "load_timeout_s": 4}
        self.scene = Scene(workers, brisk=brisk, **limits)
        self.requests: list[Call | Tensors | Stream] = []
        self.refused = 0

    # --- clients ---

    @rule(kind=st.sampled_from(["call", "one", "tensors", "stream"]), rows=st.integers(1, BATCH_ROWS + 2))
    def submit(self, kind: str, rows: int) -> None:
        request: Call | Tensors | Stream
        if kind == "tensors":
            request = Tensors(np.full((rows, 2), len(self.requests), np.float32))
        elif kind == "stream":
            request = Stream()
        else:
            body = b"%d" % len(self.requests)
            request = Call(rows, body=body) if kind == "call" else Call(1, "one", body)
        try:
            self.scene.service.submit(request)
        except RefusedError as error:
            self.refused += 1
            if isinstance(error, QueueFull):
                assert self.scene.service.queue_rows + request.rows > 40
        else:
            self.requests.append(request)

    @rule()
    def turn(self) -> None:
        self.scene.turn()

    @precondition(lambda self: self.requests)
    @rule(pick=picks)
    def leave(self, pick: int) -> None:
        request = self.requests[pick % len(self.requests)]
        if not request.ends.said and not request.gone:
            self.scene.service.cancel(request)

    @precondition(lambda self: any(isinstance(request, Stream) for request in self.requests))
    @rule(pick=picks, behind=st.booleans())
    def read(self, pick: int, behind: bool) -> None:
        streams = [request for request in self.requests if isinstance(request, Stream)]
        stream = streams[pick % len(streams)]
        stream.behind = behind
        if not behind:
            self.scene.service.resume(stream)

    # --- workers ---

    def _some(self, pick: int, state: State) -> object:
        slots = [slot for slot in self.scene.service.slots if slot.handle is not None and slot.state is state]
        return slots[pick % len(slots)].handle if slots else None

    @rule(pick=picks)
    def load(self, pick: int) -> None:
        if (worker := self._some(pick, State.STARTING)) is not None:
            worker.ready()

    @rule(pick=picks, refuse=st.frozensets(st.integers(0, 4)))
    def answer(self, pick: int, refuse: frozenset[int]) -> None:
        worker = self._some(pick, State.BUSY)
        if worker is not None and not worker.paused:
            worker.answer(refuse)

    @rule(pick=picks)
    def fail(self, pick: int) -> None:
        worker = self._some(pick, State.BUSY)
        if worker is not None and not worker.paused:
            worker.fail()

    @rule(pick=picks)
    def event(self, pick: int) -> None:
        worker = self._some(pick, State.BUSY)
        if worker is not None and isinstance(worker.held[0], StreamRequest) and not worker.paused:
            worker.event(b"1")

    @rule(pick=picks, state=st.sampled_from([State.STARTING, State.IDLE, State.BUSY, State.DOWN]))
    def die(self, pick: int, state: State) -> None:
        if (worker := self._some(pick, state)) is not None:
            worker.die()

    @rule(pick=picks)
    def die_unnoticed(self, pick: int) -> None:
        if (worker := self._some(pick, State.IDLE)) is not None:
            worker.deaf = True

    @rule(seconds=st.sampled_from([0.1, 0.5, 2.5, 6.0]))
    def wait(self, seconds: float) -> None:
        self.scene.pass_s(seconds)
        for worker in self.scene.workers:
            if worker.killed:
                worker.die()

    # --- what must hold ---

    @invariant()
    def the_books_are_right(self) -> None:
        if hasattr(self, "scene"):
            self.scene.check_books()
            assert self.scene.service.metrics.accepted == len(self.requests)

    @invariant()
    def every_request_is_in_exactly_one_place(self) -> None:
        if not hasattr(self, "scene"):
            return
        held = [request for slot in self.scene.service.slots for request in slot.requests]
        assert len(set(map(id, held))) == len(held)
        for request in self.requests:
            assert len(request.ends.said) <= 1
            places = sum(request is other for other in held) + request.waiting + len(request.ends.said)
            assert places == 1 or (request.gone and places == 0)

    @invariant()
    def every_answer_is_right(self) -> None:
        for number, request in enumerate(getattr(self, "requests", [])):
            for said in request.ends.said:
                if isinstance(said, WorkerLost):
                    assert request.attempts >= 1
                elif isinstance(said, bytes) and isinstance(request, Call):
                    assert said == b"%d" % number
                elif isinstance(said, list):
                    assert said == [[2.0 * number] * 2] * request.rows

    @invariant()
    def work_is_conserved(self) -> None:
        """No worker idles while something waits, once the loop has had its turn."""
        if hasattr(self, "scene"):
            self.scene.turn()
            idle = any(slot.state is State.IDLE for slot in self.scene.service.slots)
            assert not (idle and self.scene.service.queue_rows)

    def teardown(self) -> None:
        if not hasattr(self, "scene"):
            return
        # Let everything come to its end: workers that live, load and answer.
        for request in self.requests:
            if isinstance(request, Stream):
                self.read_on(request)
        for _ in range(400):
            if self.scene.service.in_flight == 0:
                break
            for worker in self.scene.workers:
                if worker.killed or worker.deaf:
                    worker.die()
            self.scene.pass_s(0.05)
            for slot in self.scene.service.slots:
                if slot.handle is not None and slot.state is State.STARTING:
                    slot.handle.ready()
                if slot.handle is not None and slot.state is State.BUSY and slot.handle.held:
                    slot.handle.answer()
        assert self.scene.service.in_flight == 0, "something hangs"
        assert all(len(request.ends.said) == 1 or request.gone for request in self.requests)
        self.scene.close()

    def read_on(self, stream: Stream) -> None:
        stream.behind = False
        self.scene.service.resume(stream)


ServiceRules.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestServiceRules = ServiceRules.TestCase
