"""Models wake, fail, park and leave in any order: every request ends exactly once, and memory is given away once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from scripted import BUNDLE, Call, ScriptedWorker, SteppedLoop

from setpoint.core import Limits, RefusedError
from setpoint.node.berth import Berth
from setpoint.node.config import ModelConfig
from setpoint.node.harbour import Harbour
from setpoint.node.memory_need import Need
from setpoint.node.parking import Phase
from setpoint.node.scales import Scales, Weighed
from setpoint.testing import SimulatedClock
from setpoint.worker import WorkerEvents, WorkerSpec

MIB = 1 << 20
OWN_MIB, BOUND_MIB, MODEL_MIB = 20, 75, 20
MODELS = 4
picks = st.integers(0, 2**16)


class ScriptedScales(Scales):
    """Every model weighs the same, and nothing is asked of the kernel."""

    def own_bytes(self) -> int:
        return OWN_MIB * MIB

    async def own(self) -> int:
        return self.own_bytes()

    async def of(self, model: Weighed) -> int:
        return MODEL_MIB * MIB


class Quay:
    """A harbour with scripted workers, and time."""

    def __init__(self) -> None:
        self.clock = SimulatedClock(1)
        self.loop = SteppedLoop(self.clock)
        self.bugs: list[BaseException] = []
        self.launched: list[ScriptedWorker] = []
        self.limits = Limits(queue_limit_rows=8, request_timeout_s=20, load_timeout_s=4, run_timeout_s=3)
        self.harbour: Harbour
        self.berths: list[Berth] = []
        self.leaving: list[asyncio.Task[None]] = []
        self.run(self._open())

    async def _open(self) -> None:
        self.harbour = Harbour(BOUND_MIB * MIB, 1, self.clock.now_ns, self._on_bug, ScriptedScales())
        for number in range(MODELS):
            bundle = msgspec.structs.replace(BUNDLE, name=f"m{number}")
            config = ModelConfig(bundle, Path("nowhere"))
            berth = Berth(config, self.limits, self.clock, self._on_bug, self.harbour, self._launch)  # type: ignore[arg-type]
            self.harbour.enter(berth, Need(0, MODEL_MIB * MIB, 100_000_000))
            self.berths.append(berth)

    def _on_bug(self, bug: BaseException) -> str:
        self.bugs.append(bug)
        return "reference"

    def _launch(self, spec: WorkerSpec, events: WorkerEvents, loop: asyncio.AbstractEventLoop) -> ScriptedWorker:
        worker = ScriptedWorker(spec, events, loop)
        self.launched.append(worker)
        return worker

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def turn(self) -> None:
        for _ in range(8):
            self.run(asyncio.sleep(0))

    def pass_s(self, seconds: float) -> None:
        """Move time and sweep, as the node does."""
        self.clock.advance_ns(int(seconds * 1e9))
        self.turn()
        self.run(self._sweep())
        self.turn()

    async def _sweep(self) -> None:
        for berth in self.berths:
            berth.sweep(self.clock.now_ns())
        self.harbour.sweep(self.clock.now_ns())

    def submit(self, berth: Berth, request: Call) -> RefusedError | None:
        async def asked() -> RefusedError | None:
            try:
                berth.submit(request)
            except RefusedError as error:
                return error
            return None

        found = self.run(asked())
        self.turn()
        return found

    def cancel(self, berth: Berth, request: Call) -> None:
        async def left() -> None:
            berth.cancel(request)

        self.run(left())
        self.turn()

    def leave(self, berth: Berth, timeout_s: float) -> None:
        async def gone() -> None:
            await self.harbour.leave(berth, timeout_s)
            self.berths.remove(berth)

        self.leaving.append(self.loop.create_task(gone()))
        self.turn()

    @property
    def starting(self) -> list[ScriptedWorker]:
        """Workers that have not said that they are ready."""
        return [worker for worker in self.launched if not worker.ended and not getattr(worker, "was_ready", False)]

    @property
    def holding(self) -> list[ScriptedWorker]:
        return [worker for worker in self.launched if not worker.ended and worker.held]

    def ready(self, worker: ScriptedWorker) -> None:
        worker.was_ready = True  # type: ignore[attr-defined]
        worker.ready()
        self.turn()

    def close(self) -> None:
        async def end() -> None:
            self.harbour.stop()
            for berth in self.berths:
                berth.abandon()
            await asyncio.gather(*(berth.close() for berth in self.berths))
            await self.harbour.close()

        closing = self.loop.create_task(end())
        for _ in range(200):
            self.turn()
            self.clock.advance_ns(10_000_000)
        closing.result()
        for task in self.leaving:
            task.result()
        assert self.bugs == []
        self.loop.close()


class HarbourRules(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.quay = Quay()
        self.asked: list[tuple[Berth, Call]] = []
        self.metrics = [berth.metrics for berth in self.quay.berths]

    @precondition(lambda self: self.quay.berths)
    @rule(pick=picks, timeout_s=st.sampled_from([0.0, 0.0, 0.01, 1.0, 30.0]))
    def ask(self, pick: int, timeout_s: float) -> None:
        berth = self.quay.berths[pick % len(self.quay.berths)]
        request = Call(1, "one")
        request.timeout_ns = int(timeout_s * 1e9)
        error = self.quay.submit(berth, request)
        if error is None:
            self.asked.append((berth, request))
        else:
            assert request.ends.said == []
            assert error.retry_after_s > 0

    @precondition(lambda self: self.asked)
    @rule(pick=picks)
    def client_leaves(self, pick: int) -> None:
        berth, request = self.asked[pick % len(self.asked)]
        if not request.ends.said and not request.gone:
            self.quay.cancel(berth, request)

    @precondition(lambda self: self.quay.starting)
    @rule(pick=picks, fate=st.sampled_from(["ready", "ready", "ready", "broken", "dead"]))
    def worker_starts(self, pick: int, fate: str) -> None:
        worker = self.quay.starting[pick % len(self.quay.starting)]
        if fate == "ready":
            self.quay.ready(worker)
        elif fate == "broken":
            worker.broken("no such weights")
            worker.die("exited with status 0")
        else:
            worker.die()
        self.quay.turn()

    @precondition(lambda self: self.quay.holding)
    @rule(pick=picks, fate=st.sampled_from(["answer", "answer", "fail", "die"]))
    def worker_ends_its_batch(self, pick: int, fate: str) -> None:
        worker = self.quay.holding[pick % len(self.quay.holding)]
        getattr(worker, fate)()
        self.quay.turn()

    @rule(seconds=st.sampled_from([0.01, 0.2, 1.5, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.quay.pass_s(seconds)

    @precondition(lambda self: len(self.quay.berths) > 1)
    @rule(pick=picks, timeout_s=st.sampled_from([0.0, 5.0]))
    def model_leaves(self, pick: int, timeout_s: float) -> None:
        stays = [berth for berth in self.quay.berths if not berth.pinned]
        if len(stays) > 1:
            self.quay.leave(stays[pick % len(stays)], timeout_s)

    @invariant()
    def books_balance(self) -> None:
        if not hasattr(self, "quay"):
            return
        assert self.quay.bugs == []
        harbour = self.quay.harbour
        assert harbour.held_bytes <= harbour.budget_bytes
        for berth in self.quay.berths:
            metrics = berth.metrics
            assert metrics.accepted == sum(metrics.outcomes.values()) + berth.in_flight
            if berth.held:
                assert not berth.awake
                assert harbour.phase(berth) is not Phase.AWAKE
        for _, request in self.asked:
            assert len(request.ends.said) <= 1

    def teardown(self) -> None:
        if not hasattr(self, "quay"):
            return
        self.quay.close()
        for _, request in self.asked:
            assert request.ends.said or request.gone, "a request went without an end"
            assert len(request.ends.said) <= 1
        for metrics in self.metrics:
            assert metrics.accepted == sum(metrics.outcomes.values())


TestHarbourRules = HarbourRules.TestCase
TestHarbourRules.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
