"""Requests as the queue and the workers see them: what to compute, and whom to tell."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from numpy.typing import NDArray

from setpoint.core import SetpointError, StepTime
from setpoint.wire import BatchOutputs


class Request:
    """One request from its arrival to its answer. Mutable and slotted: it is the busiest object of a node.

    Exactly one of ``fail`` and the subclass's answer is called, once. The wire that made the request overrides them.
    Not abstract: who reads a worker's reports himself, as the optimiser does, asks with requests that nobody answers;
    and ``isinstance`` takes four times as long for an abstract class, on every request's way.

    Attributes:
        endpoint: name of the endpoint asked for.
        rows: rows of work, at least 1.
        lane: requests of equal lanes may share a batch.
        timeout_ns: how long its client waits; 0 where it did not say.
        priority: 0 is the usual level; lower ones are served first, higher ones last.
        tenant: on whose behalf it comes.
        arrived_ns, started_ns, deadline_ns: on the node's clock; ``started_ns`` is when a worker was given it.
        run_ns, variant: how long the batch with it ran, and which variant ran it; set before it is answered.
        alone: must not share a batch, since a batch with it failed.
        gone: the client has left; what is computed for it goes nowhere.
        ended: it had its answer or error, or its client left; the ledger's.
        attempts: workers that have held it.
        waiting, order_ns: the queue's.
    """

    __slots__ = (
        "alone",
        "arrived_ns",
        "attempts",
        "deadline_ns",
        "ended",
        "endpoint",
        "gone",
        "lane",
        "order_ns",
        "priority",
        "rows",
        "run_ns",
        "started_ns",
        "tenant",
        "timeout_ns",
        "variant",
        "waiting",
    )

    def __init__(self, endpoint: str, rows: int, lane: Hashable) -> None:
        self.endpoint = endpoint
        self.rows = rows
        self.lane = lane
        self.alone = False
        self.gone = False
        self.ended = False
        self.attempts = 0
        self.waiting = False
        self.timeout_ns = 0
        self.priority = 0
        self.tenant = ""
        self.order_ns = 0
        self.arrived_ns = 0
        self.started_ns = 0
        self.deadline_ns = 0
        self.run_ns = 0
        self.variant = ""

    def fail(self, error: SetpointError) -> None:
        """Tell the client that there is no answer, and why."""
        raise NotImplementedError("the wire that made the request answers it")

    def tell(self, steps: Sequence[StepTime]) -> None:
        """Before its end: what each step took, where it went through several. The wire may pass it on."""

    @property
    def retryable(self) -> bool:
        """Whether another worker may still try: nothing was sent to the client yet."""
        return True


class TensorRequest(Request):
    """Named tensors in, named tensors out.

    Attributes:
        inputs: in the signature's order; the first axis is ``rows`` long where the signature is batched.
    """

    __slots__ = ("inputs",)

    def __init__(self, endpoint: str, rows: int, lane: Hashable, inputs: Sequence[NDArray[Any]]) -> None:
        super().__init__(endpoint, rows, lane)
        self.inputs = inputs

    def answer(self, outputs: BatchOutputs, start: int, end: int) -> None:
        """Give the client rows ``start`` to ``end`` of a batch's outputs, which are valid during the call only."""
        raise NotImplementedError("the wire that made the request answers it")


class CallRequest(Request):
    """A JSON body (or a form as ``pack_form`` makes it, or a raw one) for an endpoint of a Python class; answered with
    JSON."""

    __slots__ = ("body", "raw")

    def __init__(self, endpoint: str, rows: int, lane: Hashable, body: bytes, *, raw: bool) -> None:
        super().__init__(endpoint, rows, lane)
        self.body = body
        self.raw = raw

    def answer(self, json: bytes) -> None:
        """Give the client its answer."""
        raise NotImplementedError("the wire that made the request answers it")


class StreamRequest(Request):
    """As ``CallRequest``, answered with a sequence of JSON events."""

    __slots__ = ("begun", "body", "raw")

    def __init__(self, endpoint: str, lane: Hashable, body: bytes, *, raw: bool) -> None:
        super().__init__(endpoint, 1, lane)
        self.body = body
        self.raw = raw
        self.begun = False

    @property
    def retryable(self) -> bool:
        """Once an event has left, the stream cannot begin again."""
        return not self.begun

    @property
    def congested(self) -> bool:
        """Whether the client is behind: the next event should be taken only when the wire says so."""
        return False

    def event(self, json: bytes) -> None:
        """Send one event to the client."""
        raise NotImplementedError("the wire that made the request answers it")

    def end(self) -> None:
        """The stream is complete."""
        raise NotImplementedError("the wire that made the request answers it")
