"""Wakes and parks the models of a node as ``parking`` decides, and tells who comes meanwhile how long it would take."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from setpoint.core import Draining, InvalidConfiguration, NotReady, RefusedError, SetpointError
from setpoint.machine import read_machine
from setpoint.node.berth import Berth
from setpoint.node.crew import NS
from setpoint.node.memory_need import Need, bytes_text
from setpoint.node.parking import GiveUp, Park, ParkingLot, Phase, Use, Wake
from setpoint.node.scales import Scales

_log = logging.getLogger("setpoint.node")
_UNBOUNDED_BYTES = 1 << 62
_MEASURE_NS = NS
_SMALL_BYTES = 32 << 20
_TOO_LARGE_RETRY_S = 60.0


class Harbour:
    """The berths of a node and its memory.

    Attributes:
        scales: what weighs models.
        wakes, wake_failures, parks: how often each happened, by model.
    """

    def __init__(
        self,
        memory_bytes: int,
        wakes_at_once: int,
        now_ns: Callable[[], int],
        on_bug: Callable[[BaseException], str],
        scales: Scales,
    ) -> None:
        """Empty.

        Args:
            memory_bytes: what this process, the shared ones and all workers may hold together; 0 is no bound.
            wakes_at_once: models.
            now_ns: the node's clock.
            on_bug: logs a bug of ours and returns its reference.
            scales: what weighs models, and the node itself.

        Raises:
            InvalidConfiguration: the node itself holds that much.
        """
        self.memory_bytes = memory_bytes
        self.wakes, self.wake_failures, self.parks = Counter[str](), Counter[str](), Counter[str]()
        self._now_ns = now_ns
        self._on_bug = on_bug
        self.scales = scales
        self._berths: dict[str, Berth] = {}
        self._turns: dict[str, asyncio.Task[None]] = {}
        self._expected: dict[str, asyncio.Future[None]] = {}
        self._measuring: asyncio.Task[None] | None = None
        self._measured_ns = 0
        self._stopped = False
        own_bytes = scales.own_bytes() if memory_bytes else 0
        if 0 < memory_bytes <= own_bytes + _SMALL_BYTES:
            raise InvalidConfiguration(
                f"--memory {bytes_text(memory_bytes)} leaves nothing for models: the node itself holds "
                f"{bytes_text(own_bytes)}; give it at least {bytes_text(own_bytes + 2 * _SMALL_BYTES)}"
            )
        self._lot = ParkingLot((memory_bytes or _UNBOUNDED_BYTES) - own_bytes, wakes_at_once)

    # --- who is here ---------------------------------------------------------------------------------------------

    @property
    def room_bytes(self) -> int:
        """What one model may hold when all others are parked; 0 where there is no bound."""
        return self._lot.budget_bytes if self.memory_bytes else 0

    def enter(self, berth: Berth, need: Need) -> None:
        """A model that is parked.

        Raises:
            NotReady: it is certainly larger than what there is for models.
        """
        budget_bytes = self._lot.budget_bytes
        # Looking at the machine takes a millisecond: not for a model that any machine has room for.
        worth_a_look = need.least_bytes > _SMALL_BYTES
        available_bytes = read_machine().memory_available_bytes if worth_a_look else _UNBOUNDED_BYTES
        for limit_bytes, whose in ((budget_bytes, "--memory leaves for models"), (available_bytes, "the machine has")):
            if need.least_bytes > limit_bytes:
                raise NotReady(
                    f"model {berth.name!r} needs more than {bytes_text(need.least_bytes)}, and {whose} "
                    f"{bytes_text(limit_bytes)}",
                    _TOO_LARGE_RETRY_S,
                )
        berth.begin()
        self._berths[berth.key] = berth
        self._lot.add(berth.key, min(need.likely_bytes, budget_bytes), need.wake_ns)

    async def leave(self, berth: Berth, timeout_s: float) -> None:
        """Let a model's last requests be answered, for at most so long, then end it."""
        key = berth.key
        berth.pinned = True
        if not berth.awake and key not in self._turns:
            self._lot.forgone(key, self._now_ns())
            berth.refuse_held(NotReady(f"model {berth.name!r} was unloaded before it was awake"))
        try:
            await berth.leave(timeout_s)
        finally:
            if (turn := self._turns.get(key)) is not None:
                await asyncio.wait((turn,))
            self._lot.remove(key)
            del self._berths[key]
            self._decide()

    def size_bytes(self, berth: Berth) -> int:
        """What it holds awake, as far as is known."""
        return self._lot.berth(berth.key).size_bytes

    def phase(self, berth: Berth) -> Phase:
        """Where it is between asleep and awake."""
        return self._lot.phase(berth.key)

    @property
    def budget_bytes(self) -> int:
        """What models may hold together; beyond any number where nothing bounds it."""
        return self._lot.budget_bytes

    @property
    def held_bytes(self) -> int:
        """What models hold, as last measured."""
        return self._lot.held_bytes

    def phases(self) -> Counter[Phase]:
        """How many models are where."""
        return Counter(self._lot.phase(key) for key in self._berths)

    # --- waking --------------------------------------------------------------------------------------------------

    def set_wakes_at_once(self, wakes: int) -> None:
        """How many models may be woken at the same time from now on."""
        self._lot.wakes_at_once = wakes

    def has_room(self, berth: Berth) -> bool:
        """Whether it can be woken without parking anybody, behind those who wait for their turn."""
        return self._lot.has_room(self.size_bytes(berth))

    async def awaken(self, berth: Berth) -> None:
        """Wake a model in its turn, and wait until it is awake.

        Raises:
            SetpointError: it could not be woken.
        """
        key = berth.key
        if berth.awake:
            return
        expected = self._expected[key] = asyncio.get_running_loop().create_future()
        try:
            self._lot.asked(key, self._now_ns())
            self._decide()
            await expected
        finally:
            self._expected.pop(key, None)
            if not berth.awake and key in self._berths:
                self._lot.forgone(key, self._now_ns())

    def cold(self, berth: Berth, patience_ns: int) -> RefusedError | None:
        """A request came for a model that is not awake: wake it. Why the request should not wait for that, if so."""
        key, now_ns = berth.key, self._now_ns()
        self._lot.asked(key, now_ns)
        self._decide()
        books = self._lot.berth(key)
        if self._lot.too_large(key):
            return self._too_large(berth)
        if books.retry_ns > now_ns:
            return NotReady(f"model {berth.name!r} could not be woken: {berth.failure}", (books.retry_ns - now_ns) / NS)
        wait_ns = self._lot.predicted_wait_ns(key, now_ns)
        if wait_ns > patience_ns:
            return NotReady(
                f"model {berth.name!r} is parked; it will be awake in about {wait_ns / NS:.2g} s, which is longer than "
                f"the {patience_ns / NS:.2g} s that the request may wait",
                wait_ns / NS,
            )
        return None

    def forgive(self, berth: Berth) -> None:
        """Somebody says that a model that could not be woken can be now."""
        berth.failure = ""
        self._lot.forgive(berth.key)

    def forgone(self, berth: Berth) -> None:
        """Nobody waits for it any more."""
        if berth.key not in self._expected:
            self._lot.forgone(berth.key, self._now_ns())
            self._decide()

    def sweep(self, now_ns: int) -> None:
        """Called a few times a second: let time have its effect, and measure once a second where memory is bounded."""
        if not self.memory_bytes:
            return
        self._decide()
        if now_ns - self._measured_ns >= _MEASURE_NS and self._measuring is None:
            self._measured_ns = now_ns
            self._measuring = asyncio.create_task(self._measure())
            self._measuring.add_done_callback(self._measurement_done)

    def stop(self) -> None:
        """Begin to wake and park nobody any more."""
        self._stopped = True

    async def close(self) -> None:
        """Wait until no model is being woken or parked; the models themselves have been closed."""
        turns = [*self._turns.values(), *([] if self._measuring is None else [self._measuring])]
        for turn in turns:
            turn.cancel()
        await asyncio.gather(*turns, return_exceptions=True)

    # --- inside --------------------------------------------------------------------------------------------------

    def _use(self, key: str) -> Use:
        berth = self._berths[key]
        return Use(berth.pinned or berth.in_flight > 0, berth.used_ns)

    def _decide(self) -> None:
        if self._stopped:
            return
        for action in self._lot.decide(self._now_ns(), self._use):
            berth = self._berths[action.name]
            match action:
                case Wake():
                    self._turn(action.name, self._wake(berth))
                case Park():
                    berth.awake = False
                    self._turn(action.name, self._park(berth))
                case GiveUp():
                    self._fail(berth, self._too_large(berth))

    def _turn(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        task = self._turns[key] = asyncio.create_task(work)
        task.add_done_callback(self._turned)

    def _turned(self, task: asyncio.Task[None]) -> None:
        for key in [key for key, turn in self._turns.items() if turn is task]:
            del self._turns[key]
        if not task.cancelled():
            if (bug := task.exception()) is not None:
                self._on_bug(bug)
            self._decide()

    async def _wake(self, berth: Berth) -> None:
        key = berth.key
        try:
            await berth.wake()
        except SetpointError as error:
            if not isinstance(error, Draining):  # it was told to end: that is no failure
                berth.failure = error.message
                self.wake_failures[berth.name] += 1
                _log.warning("model %s could not be woken: %s", berth.reference, error.message)
            self._lot.wake_failed(key, self._now_ns())
            self._fail(berth, error)
            return
        self.wakes[berth.name] += 1
        # Weighed before the next one is decided upon, so that what is decided rests on what was measured.
        size_bytes = await self.scales.of(berth)
        self._lot.woke(key, size_bytes or self.size_bytes(berth), self._now_ns())
        if (expected := self._expected.get(key)) is not None and not expected.done():
            expected.set_result(None)

    async def _park(self, berth: Berth) -> None:
        await berth.rest()
        self.parks[berth.name] += 1
        self._lot.parked(berth.key, self._now_ns())

    def _fail(self, berth: Berth, error: SetpointError) -> None:
        expected = self._expected.get(berth.key)
        if expected is not None and not expected.done():
            expected.set_exception(error)
        retry_s = max(1.0, (self._lot.berth(berth.key).retry_ns - self._now_ns()) / NS)
        refusal = NotReady(f"model {berth.name!r} could not be woken: {error.message}", retry_s)
        berth.refuse_held(error if isinstance(error, RefusedError) else refusal)

    def _too_large(self, berth: Berth) -> NotReady:
        return NotReady(
            f"model {berth.name!r} needs {bytes_text(self.size_bytes(berth))}, and --memory "
            f"{bytes_text(self.memory_bytes)} leaves {bytes_text(self._lot.budget_bytes)} for models",
            _TOO_LARGE_RETRY_S,
        )

    async def _weigh(self, berth: Berth) -> None:
        size_bytes = await self.scales.of(berth)
        if size_bytes and berth.key in self._berths:
            self._lot.measured(berth.key, size_bytes)

    async def _measure(self) -> None:
        """Again and again, since models grow with the requests that they are asked."""
        self._lot.budget_bytes = self.memory_bytes - await self.scales.own()
        for berth in [berth for berth in self._berths.values() if berth.awake]:
            await self._weigh(berth)
        self._decide()

    def _measurement_done(self, task: asyncio.Task[None]) -> None:
        self._measuring = None
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._on_bug(bug)
