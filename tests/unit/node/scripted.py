"""A model's service whose workers do what a test says, on an event loop whose time the test moves.

Only the processes are scripted: queue, batch sizes, retries, slots, restarts and metrics are the real ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setpoint.core import (
    FREE,
    Endpoint,
    Limits,
    Lineage,
    ModelManifest,
    SetpointError,
    Signature,
    TensorSpec,
    Variant,
    error_of,
)
from setpoint.node.cache import CacheTerms
from setpoint.node.config import ModelConfig
from setpoint.node.service import ModelService
from setpoint.registry import Bundle
from setpoint.testing import SimulatedClock
from setpoint.wire import BatchOutputs
from setpoint.worker import (
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
    WorkerSpec,
)
from setpoint.worker.messages import CallAnswer, Extent

logging.getLogger("setpoint.node").setLevel(logging.ERROR)  # scripted workers die by the thousand
BATCH_ROWS = 8
SIGNATURE = Signature((TensorSpec("x", "FP32", (FREE, 2)),), (TensorSpec("y", "FP32", (FREE, 2)),), batched=True)
MANIFEST = ModelManifest(
    endpoints=(
        Endpoint("double", (), {}, batch_rows=BATCH_ROWS, signature=SIGNATURE),
        Endpoint("one", (), {}),
        Endpoint("count", (), {}, streams=True),
    ),
    variants=(Variant("fp32", "python", "model.py"),),
    lineage=Lineage("python", "sha256:0"),
)
BUNDLE = Bundle("scripted", 1, "sha256:0", MANIFEST, (), (), "")
RUN_NS, BRISK_RUN_NS = 1_000_000, 20_000


class Ends:
    """How a request ended: every answer, event and error it was given, in order."""

    def __init__(self) -> None:
        self.said: list[object] = []

    @property
    def error(self) -> SetpointError:
        (error,) = self.said
        assert isinstance(error, SetpointError), f"expected an error, got {error!r}"
        return error


class Call(CallRequest):
    __slots__ = ("ends",)

    def __init__(self, rows: int = 1, endpoint: str = "double", body: bytes = b"{}") -> None:
        super().__init__(endpoint, rows, (endpoint, False), body, raw=False)
        self.ends = Ends()

    def answer(self, json: bytes) -> None:
        self.ends.said.append(json)

    def fail(self, error: SetpointError) -> None:
        self.ends.said.append(error)


class Tensors(TensorRequest):
    __slots__ = ("ends",)

    def __init__(self, array: NDArray[Any]) -> None:
        super().__init__("double", len(array), ("double", ()), [array])
        self.ends = Ends()

    def answer(self, outputs: BatchOutputs, start: int, end: int) -> None:
        self.ends.said.append(outputs.part(0, start, end).tolist())

    def fail(self, error: SetpointError) -> None:
        self.ends.said.append(error)


class Stream(StreamRequest):
    __slots__ = ("behind", "ends", "events")

    def __init__(self) -> None:
        super().__init__("count", ("count", False), b"{}", raw=False)
        self.ends = Ends()
        self.events: list[bytes] = []
        self.behind = False

    @property
    def congested(self) -> bool:
        return self.behind

    def event(self, json: bytes) -> None:
        assert not self.ends.said, "an event behind the end"
        self.events.append(json)

    def end(self) -> None:
        self.ends.said.append(b"end")

    def fail(self, error: SetpointError) -> None:
        self.ends.said.append(error)


class ScriptedWorker:
    """Stands where a ``WorkerHandle`` stands; the test plays the process."""

    pids = 0

    def __init__(self, spec: WorkerSpec, events: WorkerEvents, loop: asyncio.AbstractEventLoop) -> None:
        ScriptedWorker.pids += 1
        self.pid = ScriptedWorker.pids
        self.index = spec.index
        self.variants = spec.variants
        self.batch = 0
        self.held: list[Any] = []
        self.cancelled: list[int] = []
        self.paused = False
        self.killed = False
        self.deaf = False
        self.ended = False
        self.brisk = False
        self._events = events
        self._loop = loop
        self._results: list[Any] = []

    # What the service may do.

    def run(
        self, batch: int, specs: Sequence[TensorSpec], requests: Sequence[Request], *, variant: int, lone: bool
    ) -> bool:
        assert 0 <= variant < len(self.variants), "batches run with a variant that the worker was told to load"
        return self._take(batch, requests)

    def call(self, batch: int, requests: Sequence[Request], *, lone: bool) -> bool:
        return self._take(batch, requests)

    def await_report(self, patience_ns: int) -> None:
        if self.brisk and self.held:
            self.answer()  # while the service is still sending

    def stream(self, batch: int, request: Request) -> bool:
        return self._take(batch, [request])

    def _take(self, batch: int, requests: Sequence[Request]) -> bool:
        assert not self.held, "a worker was given a batch while it held one"
        assert batch == self.batch + 1 or self.deaf, "batches of a worker are numbered without gaps"
        assert not self.ended, "a worker was given a batch after its end was told"
        if self.deaf or self.killed:
            return False
        self.batch = batch
        self.held = list(requests)
        return True

    def cancel(self, batch: int) -> None:
        self.cancelled.append(batch)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def check(self) -> None:
        pass

    def kill(self) -> None:
        self.killed = True

    def close(self) -> None:
        if not self.ended:
            self._loop.call_soon(self.die, "closed")

    def read_outputs(self, report: Ran) -> list[NDArray[Any]]:
        return self._results

    def read_answers(self, report: Answered) -> list[bytes | SetpointError]:
        return self._results

    # What the test makes it do.

    def say(self, report: Report) -> None:
        assert not self.ended
        self._events.on_report(self, report)  # type: ignore[arg-type]

    def ready(self) -> None:
        self.say(Ready(1.0, 1.0, ["cpu"]))

    def broken(self, message: str) -> None:
        self.say(Broken("model_error", message))

    @property
    def run_ns(self) -> int:
        return BRISK_RUN_NS if self.brisk else RUN_NS

    def answer(self, refuse: frozenset[int] = frozenset()) -> None:
        """Answer what it holds: each body with itself; those at ``refuse`` with an error."""
        held, self.held = self.held, []
        if isinstance(held[0], StreamRequest):
            self.say(StreamEnd(self.batch, self.run_ns))
        elif isinstance(held[0], TensorRequest):
            self._results = [2 * np.concatenate([request.inputs[0] for request in held])]
            self.say(Ran(self.batch, 0, self.run_ns, []))
        else:
            self._results = [
                error_of("invalid_request", "refused") if index in refuse else request.body
                for index, request in enumerate(held)
            ]
            self.say(Answered(self.batch, 0, self.run_ns, [CallAnswer(Extent(0, 0))] * len(held)))

    def answer_with(self, *outputs: NDArray[Any]) -> None:
        """Answer tensors with these arrays, right or not."""
        self.held = []
        self._results = list(outputs)
        self.say(Ran(self.batch, 0, self.run_ns, []))

    def fail(self, kind: str = "model_error", message: str = "the model failed") -> None:
        """The batch fails as a whole."""
        held, self.held = self.held, []
        if isinstance(held[0], StreamRequest):
            self.say(StreamEnd(self.batch, self.run_ns, kind, message))
        elif isinstance(held[0], TensorRequest):
            self.say(Ran(self.batch, 0, self.run_ns, [], kind, message))
        else:
            self.say(Answered(self.batch, 0, self.run_ns, [], kind, message))

    def event(self, json: bytes) -> None:
        middle = len(json) // 2
        self.say(StreamChunk(self.batch, json[:middle], False))
        self.say(StreamChunk(self.batch, json[middle:], True))

    def die(self, reason: str = "killed by SIGKILL") -> None:
        if not self.ended:
            self.ended = True
            self.held = []
            self._events.on_exit(self, reason)  # type: ignore[arg-type]


class SteppedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is a simulated clock."""

    def __init__(self, clock: SimulatedClock) -> None:
        super().__init__()
        self._simulated = clock

    def time(self) -> float:
        return self._simulated.now_ns() / 1e9


class Scene:
    """A service, its scripted workers, and time."""

    def __init__(
        self,
        workers: int = 1,
        *,
        start: bool = True,
        brisk: bool = False,
        cache: CacheTerms | None = None,
        **limits: float,
    ) -> None:
        """``brisk``: runs are so short that the service looks for the answer on the spot, and gets it there."""
        self.brisk = brisk
        self.clock = SimulatedClock(1)
        self.loop = SteppedLoop(self.clock)
        self.launched: list[ScriptedWorker] = []
        self.launch_error: OSError | None = None
        self.bugs: list[BaseException] = []
        self.limits = Limits(**limits)  # type: ignore[arg-type]
        self.service = ModelService(
            ModelConfig(BUNDLE, Path("nowhere"), workers, cache=cache),
            self.limits,
            self.clock,
            self._on_bug,
            self._launch,  # type: ignore[arg-type]
        )
        self.service._dispatch.looks = True  # whatever cores this machine has
        self.starting = self.loop.create_task(self.service.start())
        self.turn()
        if start:
            for worker in list(self.launched):
                worker.ready()
            self.pass_s(2)  # so that they count as good starts
            assert self.starting.done()

    def _on_bug(self, bug: BaseException) -> str:
        self.bugs.append(bug)
        return "reference"

    def _launch(self, spec: WorkerSpec, events: WorkerEvents, loop: asyncio.AbstractEventLoop) -> ScriptedWorker:
        if self.launch_error is not None:
            raise self.launch_error
        worker = ScriptedWorker(spec, events, loop)
        worker.brisk = self.brisk
        self.launched.append(worker)
        return worker

    @property
    def workers(self) -> list[ScriptedWorker]:
        """Those whose end was not told yet."""
        return [worker for worker in self.launched if not worker.ended]

    @property
    def worker(self) -> ScriptedWorker:
        (worker,) = self.workers
        return worker

    def turn(self) -> None:
        """Let the event loop do everything that is due."""
        for _ in range(4):
            self.loop.run_until_complete(asyncio.sleep(0))

    def pass_s(self, seconds: float) -> None:
        """Move time and sweep, as the node does ten times a second."""
        self.clock.advance_ns(int(seconds * 1e9))
        self.turn()
        self.service.sweep(self.clock.now_ns())
        self.turn()

    def submit(self, *requests: Any) -> Any:
        """Submit in one turn of the loop; returns the last."""
        for request in requests:
            self.service.submit(request)
        self.turn()
        return requests[-1]

    def check_books(self) -> None:
        metrics = self.service.metrics
        assert metrics.accepted == sum(metrics.outcomes.values()) + self.service.in_flight
        assert self.bugs == []

    def close(self) -> None:
        closing = self.loop.create_task(self.service.close())
        for _ in range(100):
            self.turn()
            self.clock.advance_ns(10_000_000)
        closing.result()
        self.check_books()
        assert self.service.in_flight == 0
        if self.starting.done():
            self.starting.exception()
        else:
            self.starting.cancel()
            self.turn()
        self.loop.close()
