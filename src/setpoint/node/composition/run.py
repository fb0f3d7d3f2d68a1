"""One request on its way through the steps. Each model step is a request of its own to that model's scheduler."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from setpoint.core import (
    FREE,
    DeadlineExceeded,
    InvalidRequest,
    ModelError,
    RequestTooLarge,
    SetpointError,
    StepTime,
    TensorSpec,
)
from setpoint.node.composition.graph import Graph, ReadyStep
from setpoint.node.composition.values import Held, Rows, combined, empty, fewest, holds, narrowed, size_bytes
from setpoint.node.service import ModelService
from setpoint.scheduling import StepRun
from setpoint.wire import BatchOutputs
from setpoint.worker import TensorRequest

Arrays = list[NDArray[Any]]


class Host(Protocol):
    """Who is told how a run ends, and keeps the node's limits."""

    rows_limit: int
    """Rows of one request between steps."""

    def now_ns(self) -> int:
        """The node's clock."""
        ...

    def hold(self, size_bytes: int) -> None:
        """So much more is held between steps; or less.

        Raises:
            RefusedError, RequestTooLarge: that is more than may be.
        """
        ...

    def completed(self, run: Run, outputs: Arrays) -> None:
        """Every step is done."""
        ...

    def failed(self, run: Run, error: SetpointError) -> None:
        """A step has no answer, so neither has the request."""
        ...


class StepRequest(TensorRequest):
    """A part of a request's rows at one step, in the queue of the step's model."""

    __slots__ = ("_run", "part", "piece", "place")

    def __init__(self, run: Run, place: int, piece: int, ready: ReadyStep, inputs: Arrays) -> None:
        assert ready.endpoint is not None, "steps with a model have an endpoint"
        assert ready.part is not None, "and the model"
        rows = len(inputs[0]) if ready.step.batched else 1
        super().__init__(ready.endpoint.name, rows, (ready.endpoint.name, *(a.shape[1:] for a in inputs)), inputs)
        self._run = run
        self.part: ModelService = ready.part
        self.place = place
        self.piece = piece
        self.priority = run.request.priority
        self.tenant = run.request.tenant

    def answer(self, outputs: BatchOutputs, start: int, end: int) -> None:
        """Keep a copy: the next batch will be written where these lie."""
        self._run.answered(self, [np.array(outputs.part(i, start, end)) for i in range(len(outputs.arrays))])

    def fail(self, error: SetpointError) -> None:
        """This step has no answer."""
        self._run.refused(self, error)


class Run:
    """One request's way. Not begun before ``begin``, and nothing of it is left anywhere after its end.

    Attributes:
        request: the client's; it has a deadline.
        times: of the steps that are done, in the order in which they were.
        started_ns: when the first worker was given something of it, of those that have answered; 0 before.
    """

    __slots__ = (
        "_asked",
        "_graph",
        "_held_bytes",
        "_host",
        "_open",
        "_steps",
        "_uses",
        "_values",
        "request",
        "started_ns",
        "times",
    )

    def __init__(self, request: TensorRequest, graph: Graph, host: Host) -> None:
        self.request = request
        self.times: list[StepTime] = []
        self.started_ns = 0
        self._graph = graph
        self._host = host
        self._steps = StepRun(graph.order)
        self._values: list[Held | None] = [None] * len(graph.uses)
        self._values[: len(graph.inputs)] = [Held(array) for array in request.inputs]
        self._uses = list(graph.uses)
        self._asked: dict[StepRequest, None] = {}
        self._open: dict[int, OpenStep] = {}
        self._held_bytes = 0

    @property
    def over(self) -> bool:
        """It has its end."""
        return self._steps.over

    @property
    def begun(self) -> bool:
        """Whether a worker was given something of it."""
        return bool(self.started_ns) or any(asked.started_ns for asked in self._asked)

    @property
    def run_ns(self) -> int:
        """What its steps took in workers, together."""
        return sum(time.run_ns for time in self.times)

    def begin(self) -> None:
        """Ask the first steps."""
        try:
            self._check_rows(range(len(self._graph.inputs)), InvalidRequest, "the request has")
            for place in self._steps.begin():
                if not self.over:
                    self._step(place)
        except SetpointError as error:
            self._fail(error)

    def stop(self) -> None:
        """Nobody wants the answer any more: take back what was asked of the steps."""
        if self._steps.end():
            self._let_go()

    # --- what steps say ------------------------------------------------------------------------------------------

    def answered(self, asked: StepRequest, arrays: Arrays) -> None:
        """A step, or a piece of its rows, is done."""
        self._asked.pop(asked, None)
        if self.over:
            return
        self.started_ns = min(self.started_ns or asked.started_ns, asked.started_ns)
        open_step = self._open[asked.place]
        if open_step.add(asked, arrays):
            del self._open[asked.place]
            self.times.append(open_step.time)
            try:
                self._done(asked.place, [Held(array, open_step.rows) for array in open_step.outputs()])
            except SetpointError as error:
                self._fail(error)

    def refused(self, asked: StepRequest, error: SetpointError) -> None:
        """A step has no answer: neither has the request."""
        self._asked.pop(asked, None)
        if not self.over:
            # A copy, since others may be told the same object: and with the place where it happened.
            error = copy.copy(error)
            error.args = (f"{self._graph.steps[asked.place].where}: {error}",)
            self._fail(error)

    # --- inside --------------------------------------------------------------------------------------------------

    def _fail(self, error: SetpointError) -> None:
        if self._steps.end():
            self._let_go()
            self._host.failed(self, error)

    def _let_go(self) -> None:
        asked, self._asked = self._asked, {}
        for one in asked:
            one.part.cancel(one)
        self._open.clear()
        self._values.clear()
        self._hold(-self._held_bytes)

    def _hold(self, more_bytes: int) -> None:
        if more_bytes:
            self._host.hold(more_bytes)
            self._held_bytes += more_bytes

    def _step(self, place: int) -> None:
        ready = self._graph.steps[place]
        given = [self._values[number] for number in ready.takes]
        if ready.part is None:
            began_ns = self._host.now_ns()
            result = combined(ready.step, given)
            self.times.append(StepTime(ready.step.name, 0, 0, self._host.now_ns() - began_ns))
            self._done(place, [result])
        elif any(held is None for held in given):
            self._done(place, [None] * len(ready.gives))
        else:
            self._ask(place, ready, [held for held in given if held is not None])

    def _ask(self, place: int, ready: ReadyStep, given: list[Held]) -> None:
        """Ask the step's model: about those rows for which its condition holds, in pieces that fit its batches."""
        batched = ready.step.batched
        rows = fewest(given) if batched else None
        arrays = [narrowed(held, rows) for held in given]
        if ready.step.when is not None:
            asked = self._values[ready.condition]
            if asked is None:
                self._done(place, [None] * len(ready.gives))
                return
            mask = holds(ready.step.when, narrowed(asked, rows), ready.where, by_row=batched)
            if not batched:
                if not mask.all():
                    self._done(place, [None] * len(ready.gives))
                    return
            else:
                arrays = [array[mask] for array in arrays]
                rows = np.flatnonzero(mask) if rows is None else rows[mask]
        if batched and len(arrays[0]) > self._host.rows_limit:
            raise RequestTooLarge(
                f"{ready.where}: {len(arrays[0])} rows, more than the {self._host.rows_limit} that one request may have"
            )
        if batched and not len(arrays[0]):
            self._done(place, [Held(empty(spec), rows) for spec in ready.step.outputs])
            return
        for spec, array in zip(ready.inputs, arrays, strict=True):
            _check_shape(ready, spec, array)
        most = max(1, ready.endpoint.batch_rows if ready.endpoint is not None else 1)
        starts = range(0, len(arrays[0]), most) if batched else range(1)
        self._open[place] = OpenStep(ready, len(starts), rows)
        for piece, start in enumerate(starts):
            part = [array[start : start + most] for array in arrays] if batched else arrays
            self._submit(StepRequest(self, place, piece, ready, part))
            if self.over:
                return

    def _submit(self, asked: StepRequest) -> None:
        asked.timeout_ns = self.request.deadline_ns - self._host.now_ns()
        if asked.timeout_ns <= 0:
            where = self._graph.steps[asked.place].where
            raise DeadlineExceeded(f"{where}: the request's deadline passed before it began")
        self._asked[asked] = None
        try:
            asked.part.submit(asked)
        except SetpointError as error:
            self.refused(asked, error)

    def _done(self, place: int, given: Sequence[Held | None]) -> None:
        """Keep what a step gave as long as it is needed, and go on."""
        ready = self._graph.steps[place]
        for number, held in zip(ready.gives, given, strict=True):
            if self._uses[number] and held is not None:
                self._hold(size_bytes(held.array))
                self._values[number] = held
        if ready.part is not None and not ready.step.batched:
            self._check_rows(ready.gives, ModelError, f"{ready.where} gave")
        for number in (*ready.takes, ready.condition):
            if number >= 0:
                self._used(number)
        following = self._steps.done(place)
        if self._steps.over:
            self._complete()
            return
        for follower in following:
            if not self.over:
                self._step(follower)

    def _used(self, number: int) -> None:
        self._uses[number] -= 1
        held = self._values[number]
        if not self._uses[number] and held is not None and number >= len(self._graph.inputs):
            self._hold(-size_bytes(held.array))
            self._values[number] = None

    def _complete(self) -> None:
        outputs = []
        for number in self._graph.outputs:
            held = self._values[number]
            assert held is not None, "an output that may not be there does not pass packing"
            outputs.append(held.array)
        self._let_go()
        self._host.completed(self, outputs)

    def _check_rows(self, numbers: Iterable[int], kind: type[SetpointError], who: str) -> None:
        """Tensors that come from one place and are used by row must have as many rows as each other."""
        arrays = [held.array for number in numbers if number in self._graph.by_row and (held := self._values[number])]
        counts = sorted({len(array) if array.ndim else 0 for array in arrays})
        if len(counts) > 1:
            raise kind(f"{who} tensors of {' and '.join(map(str, counts))} rows, which are used row by row together")


class OpenStep:
    """A step that its model works on, in one piece or several."""

    __slots__ = ("_left", "_pieces", "_ready", "rows", "time")

    def __init__(self, ready: ReadyStep, pieces: int, rows: Rows | None) -> None:
        self.rows = rows
        self.time = StepTime(ready.step.name, 0, 0, 0)
        self._ready = ready
        self._left = pieces
        self._pieces: list[Arrays] = [[] for _ in range(pieces)]

    def add(self, asked: StepRequest, arrays: Arrays) -> bool:
        """A piece is done; whether all are now."""
        queue_ns, before = asked.started_ns - asked.arrived_ns, self.time
        self.time = StepTime(
            before.step,
            before.rows + asked.rows,
            min(before.queue_ns, queue_ns) if before.rows else queue_ns,
            max(before.run_ns, asked.run_ns),
        )
        self._pieces[asked.piece] = arrays
        self._left -= 1
        return not self._left

    def outputs(self) -> Arrays:
        """The rows of all pieces, in order.

        Raises:
            ModelError: not one row for each that was asked.
        """
        if len(self._pieces) == 1:
            joined = self._pieces[0]
        else:
            of_output = list(zip(*self._pieces, strict=True))
            for arrays in of_output:
                if len({array.shape[1:] for array in arrays}) > 1:
                    raise ModelError(f"{self._ready.where} gave rows of different shapes for one request")
            joined = [np.concatenate(arrays) for arrays in of_output]
        if self._ready.step.batched and any(array.shape[:1] != (self.time.rows,) for array in joined):
            shapes = [list(array.shape) for array in joined]
            raise ModelError(f"{self._ready.where} was asked {self.time.rows} rows and gave shapes {shapes}")
        return joined


def _check_shape(ready: ReadyStep, spec: TensorSpec, array: NDArray[Any]) -> None:
    """What was free when the composition was packed must fit now."""
    if array.ndim != len(spec.shape) or any(
        wanted not in (FREE, length) for wanted, length in zip(spec.shape, array.shape, strict=True)
    ):
        raise ModelError(f"{ready.where}: its model takes {spec}, and was given shape {list(array.shape)}")
