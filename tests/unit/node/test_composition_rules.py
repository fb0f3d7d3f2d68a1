"""A composition whose workers do what a test says: whatever happens, each request ends once, and nothing is left over.

Only the worker processes are scripted: the graph's runs, the steps' queues, batches, retries and metrics are real.
"""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from scripted import MANIFEST, SIGNATURE, Ends, ScriptedWorker, SteppedLoop, Tensors

from setpoint.core import (
    COMPOSITION_ENGINE,
    Composition,
    Condition,
    DeadlineExceeded,
    Endpoint,
    Limits,
    Lineage,
    ModelManifest,
    QueueFull,
    RefusedError,
    RequestTooLarge,
    SetpointError,
    Step,
    TensorSpec,
    Variant,
)
from setpoint.node.composition import CompositionBerth
from setpoint.node.config import ModelConfig
from setpoint.registry import Bundle
from setpoint.testing import SimulatedClock
from setpoint.worker import WorkerEvents, WorkerSpec

Y = (TensorSpec("y", "FP32", (-1, 2)),)


def model(name: str, part: str, x: str, when: Condition | None = None) -> Step:
    return Step(name, Y, part, {"x": x}, True, when)


GRAPH = Composition(
    (
        model("a", "a", "x"),
        model("side", "side", "x"),
        model("b", "b", "a", Condition("a", "above", 1.0, at=0)),
        Step("c", (TensorSpec("c", "FP32", (-1, 2)),), combination="choose", of=("b", "a")),
        model("d", "a", "c"),
        Step("y", (TensorSpec("y", "FP32", (-1, 2)),), combination="mean", of=("d", "side"), weights=(3.0, 1.0)),
    ),
    ("y",),
    {"a": MANIFEST, "b": MANIFEST, "side": MANIFEST},
)
WHOLE = ModelManifest(
    (Endpoint("predict", (), {}, batch_rows=64, signature=SIGNATURE),),
    (Variant(COMPOSITION_ENGINE, COMPOSITION_ENGINE, "composition.json"),),
    Lineage("composition", "sha256:0"),
    composition=GRAPH,
)
BUNDLE = Bundle("many", 1, "sha256:0", WHOLE, (), (), "")


def expected(x: Any) -> Any:
    """What the graph says where every model doubles."""
    a = 2 * x
    c = np.where(a[:, :1] > 1, 2 * a, a)
    return ((3 * 2 * c + 2 * x) / 4).tolist()


class Ask(Tensors):
    def __init__(self, array: Any) -> None:
        super().__init__(array)
        self.endpoint = "predict"
        self.lane = ("predict",)


class Quay:
    """A harbour in which nobody sleeps."""

    def cold(self, berth: Any, patience_ns: int) -> RefusedError | None:
        return None

    def forgone(self, berth: Any) -> None:
        pass


class Scene:
    """A composition, its scripted workers by part, and time."""

    def __init__(self, workers: int = 1, **limits: float) -> None:
        self.clock = SimulatedClock(1)
        self.loop = SteppedLoop(self.clock)
        self.launched: list[tuple[str, ScriptedWorker]] = []
        self.ready: set[int] = set()
        self.bugs: list[BaseException] = []
        self.berth = CompositionBerth(
            ModelConfig(BUNDLE, Path("nowhere"), workers),
            Limits(**limits),  # type: ignore[arg-type]
            self.clock,
            self._on_bug,
            Quay(),
            self._launch,  # type: ignore[arg-type]
        )
        waking = self.loop.create_task(self._awaken())
        self.turn()
        self.make_ready()
        self.pass_s(2)
        assert waking.done()

    async def _awaken(self) -> None:
        self.berth.begin()
        await self.berth.wake()

    def _on_bug(self, bug: BaseException) -> str:
        self.bugs.append(bug)
        return "reference"

    def _launch(self, spec: WorkerSpec, events: WorkerEvents, loop: asyncio.AbstractEventLoop) -> ScriptedWorker:
        worker = ScriptedWorker(spec, events, loop)
        self.launched.append((str(spec.folder), worker))
        return worker

    def turn(self) -> None:
        for _ in range(6):
            self.loop.run_until_complete(asyncio.sleep(0))

    def pass_s(self, seconds: float) -> None:
        self.clock.advance_ns(int(seconds * 1e9))
        self.turn()
        self.berth.sweep(self.clock.now_ns())
        self.turn()

    def make_ready(self) -> None:
        """Those that were started since."""
        for _, worker in self.launched:
            if worker.pid not in self.ready and not worker.ended:
                self.ready.add(worker.pid)
                worker.ready()
        self.turn()

    def busy(self) -> list[ScriptedWorker]:
        return [worker for _, worker in self.launched if worker.held and not worker.ended]

    def answer_all(self) -> None:
        """Until nothing more moves."""
        while busy := self.busy():
            for worker in busy:
                worker.answer()
            self.turn()

    def submit(self, *requests: Ask) -> None:
        for request in requests:
            self.berth.submit(request)
        self.turn()

    def check(self) -> None:
        assert self.bugs == []
        for service in (self.berth, *self.berth.parts):
            metrics = service.metrics
            assert metrics.accepted == sum(metrics.outcomes.values()) + service.in_flight
        if not self.berth.in_flight:
            runs: Any = self.berth._scheduler
            assert runs._held_bytes == 0
            assert all(part.queue_rows == 0 for part in self.berth.parts)

    def close(self) -> None:
        closing = self.loop.create_task(self.berth.close())
        for _ in range(100):
            self.turn()
            self.clock.advance_ns(10_000_000)
        closing.result()
        self.check()
        assert self.berth.in_flight == 0
        self.loop.close()


class Rules(RuleBasedStateMachine):
    """Requests come, workers answer, fail and die, clients leave, time passes, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene(workers=2, request_timeout_s=30.0, run_timeout_s=20.0, queue_limit_rows=60)
        self.asked: list[Ask] = []
        self.left: list[Ask] = []

    @rule(rows=st.integers(1, 20), seed=st.integers(0, 99), timeout_ms=st.sampled_from([0, 0, 0, 50, 5000]))
    def submit(self, rows: int, seed: int, timeout_ms: int) -> None:
        request = Ask(np.random.default_rng(seed).uniform(-1, 1, (rows, 2)).astype(np.float32))
        request.timeout_ns = timeout_ms * 1_000_000
        try:
            self.scene.submit(request)
        except RefusedError:
            return
        self.asked.append(request)

    @precondition(lambda self: self.scene.busy())
    @rule(which=st.integers(0, 9), what=st.sampled_from(["answer", "answer", "answer", "fail", "die", "nonsense"]))
    def a_worker(self, which: int, what: str) -> None:
        busy = self.scene.busy()
        worker = busy[which % len(busy)]
        if what == "nonsense":
            worker.answer_with(np.zeros((1, 2, 3), np.float32))
        else:
            getattr(worker, what)()
        self.scene.turn()

    @rule()
    def new_workers_are_ready(self) -> None:
        self.scene.make_ready()

    @precondition(lambda self: self.asked)
    @rule(which=st.integers(0, 99))
    def a_client_leaves(self, which: int) -> None:
        request = self.asked[which % len(self.asked)]
        if not request.ended and request not in self.left:
            self.left.append(request)
            self.scene.berth.cancel(request)
            self.scene.turn()

    @rule(seconds=st.sampled_from([0.02, 0.2, 3.0, 25.0]))
    def time_passes(self, seconds: float) -> None:
        self.scene.pass_s(seconds)

    @invariant()
    def books_are_right(self) -> None:
        self.scene.check()

    @invariant()
    def answers_are_right_and_given_once(self) -> None:
        for request in self.asked:
            assert len(request.ends.said) <= (0 if request in self.left else 1)
            for said in request.ends.said:
                if isinstance(said, SetpointError):
                    assert said.message
                else:
                    np.testing.assert_allclose(said, expected(request.inputs[0]), rtol=1e-5, atol=1e-6)

    def teardown(self) -> None:
        self.scene.close()
        assert all(request.ended for request in self.asked)


Rules.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestRules = Rules.TestCase


def test_rows_of_two_requests_share_a_batch_at_each_step_and_go_back_to_whom_they_belong() -> None:
    scene = Scene()
    first, second = Ask(np.full((1, 2), 0.1, np.float32)), Ask(np.ones((2, 2), np.float32))
    scene.submit(first, second)
    assert sorted(sum(request.rows for request in worker.held) for worker in scene.busy()) == [3, 3]
    scene.answer_all()
    assert [first.ends.said, second.ends.said] == [[expected(first.inputs[0])], [expected(second.inputs[0])]]
    by_name = {part.name: part.metrics.batches for part in scene.berth.parts}
    assert {name: (batches.count, batches.rows) for name, batches in by_name.items()} == {
        "many/a": (3, 6),  # two steps of the graph; the row that goes no other way is back sooner
        "many/b": (1, 2),  # only those rows for which the condition holds
        "many/side": (1, 3),
    }
    scene.close()


def test_a_request_waits_until_a_worker_is_given_something_of_it() -> None:
    scene = Scene()
    first, second = Ask(np.ones((1, 2), np.float32)), Ask(np.ones((1, 2), np.float32))
    scene.submit(first)
    scene.pass_s(0.2)
    assert scene.berth.oldest_wait_ns(scene.clock.now_ns()) == 0, "its first steps run"
    scene.submit(second)
    scene.pass_s(0.1)
    assert scene.berth.oldest_wait_ns(scene.clock.now_ns()) == 100_000_000
    first_a, side = scene.busy()
    side.answer()
    scene.pass_s(0.1)
    first_a.answer()
    scene.turn()
    scene.answer_all()
    assert first.started_ns == first.arrived_ns, "the earliest of its steps, whichever answered first"
    assert second.started_ns - second.arrived_ns == 100_000_000
    scene.close()


def test_the_deadline_of_the_request_is_that_of_every_step() -> None:
    scene = Scene()
    request = Ask(np.ones((1, 2), np.float32))
    request.timeout_ns = 100_000_000
    scene.submit(request)
    scene.pass_s(0.06)
    for worker in scene.busy():
        worker.answer()
    scene.turn()
    (held,) = [one for worker in scene.busy() for one in worker.held]
    assert held.deadline_ns == request.deadline_ns
    scene.pass_s(0.06)
    scene.answer_all()
    assert isinstance(request.ends.error, DeadlineExceeded)
    assert "step 'd'" in request.ends.error.message
    scene.close()


def test_a_refusal_of_one_step_takes_back_what_the_others_were_asked() -> None:
    scene = Scene()
    request, other = Ask(np.ones((1, 2), np.float32)), Ask(np.ones((1, 2), np.float32))
    scene.submit(request)
    scene.submit(other)  # its rows wait behind the first's, at both steps
    first = {folder.rpartition("/")[2]: worker for folder, worker in scene.launched if worker.held}
    (beside,) = first["side"].held
    first["a"].fail("model_error", "no")
    scene.turn()
    assert request.ends.error.message == "step 'a': no"
    assert beside.gone
    scene.answer_all()
    assert other.ends.said == [expected(other.inputs[0])]
    scene.close()


def test_it_rests_and_wakes_as_one_and_who_came_meanwhile_is_answered() -> None:
    scene = Scene()
    resting = scene.loop.create_task(scene.berth.rest())
    scene.pass_s(0.1)
    assert resting.done()
    assert all(worker.ended for _, worker in scene.launched)
    request = Ask(np.ones((1, 2), np.float32))
    scene.submit(request)
    assert (request.ends.said, scene.berth.held) == ([], 1)
    waking = scene.loop.create_task(scene.berth.wake())
    scene.turn()
    assert not waking.done(), "every part has a worker before anybody is let in"
    scene.make_ready()
    assert waking.done()
    scene.answer_all()
    assert request.ends.said == [expected(request.inputs[0])]
    scene.close()


def test_what_lies_between_steps_has_a_limit() -> None:
    scene = Scene(composition_limit_bytes=100)
    small, many = Ask(np.ones((4, 2), np.float32)), Ask(np.ones((4, 2), np.float32))
    large = Ask(np.ones((20, 2), np.float32))
    scene.submit(large)
    scene.answer_all()
    assert isinstance(large.ends.error, RequestTooLarge)
    scene.submit(small)
    scene.submit(many)
    scene.answer_all()
    ends = [small.ends.said[0], many.ends.said[0]]
    assert any(isinstance(end, QueueFull) for end in ends) or ends == [expected(small.inputs[0])] * 2
    again = Ask(np.ones((1, 2), np.float32))
    scene.submit(again)
    scene.answer_all()
    assert again.ends.said == [expected(again.inputs[0])], "what ended holds nothing any more"
    scene.close()


def test_an_answer_says_what_each_step_took() -> None:
    class Told(Ask):
        def tell(self, steps: Any) -> None:
            self.steps = steps

    scene = Scene()
    request = Told(np.full((2, 2), [[0.1, 0.1], [1.0, 1.0]], np.float32))
    scene.submit(request)
    scene.answer_all()
    assert {(time.step, time.rows) for time in request.steps} == {
        ("a", 2),
        ("side", 2),
        ("b", 1),
        ("c", 0),
        ("d", 2),
        ("y", 0),
    }
    assert request.variant == "composition"
    assert isinstance(request.ends, Ends)
    scene.close()
