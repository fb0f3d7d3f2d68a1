"""The models of a node, and how they come and go while it serves.

A model that comes is started and warmed up in workers of its own before any request reaches it; the version that it
replaces answers meanwhile, then drains, then ends. Where memory is bounded, ``harbour`` says who is awake.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from setpoint.core import Clock, Composition, InvalidConfiguration, NotReady
from setpoint.machine import engine_fingerprint, read_machine
from setpoint.node.berth import Berth
from setpoint.node.config import ModelConfig, NodeConfig
from setpoint.node.crew import Launch
from setpoint.node.harbour import Harbour
from setpoint.node.judgement import judged_elsewhere
from setpoint.node.loading import Loader
from setpoint.node.memory_need import bytes_text, need_of
from setpoint.node.parking import Phase
from setpoint.node.scales import Scales
from setpoint.registry import Bundle

_log = logging.getLogger("setpoint.node")
_START_S = 3.0


class IndexEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model of the repository index, in the words of V2's model repository extension.

    Attributes:
        state: ``READY``, ``LOADING``, ``UNLOADING`` or ``UNAVAILABLE``.
        reason: why it is not ready; of a ready one, that it is parked.
    """

    name: str
    version: str
    state: str
    reason: str = ""


class Publisher(Protocol):
    """Routes requests to models; the gateway."""

    def publish(self, service: Berth) -> None:
        """Route requests for its name to this model, instead of to another of that name."""
        ...

    def withdraw(self, name: str) -> None:
        """Route no more requests to the model of that name."""
        ...


class Fleet:
    """The models of one node.

    Attributes:
        harbour: where they are awake or parked.
    """

    def __init__(
        self,
        config: NodeConfig,
        clock: Clock,
        on_bug: Callable[[BaseException], str],
        publisher: Publisher,
        launch: Launch,
        scales: Scales,
    ) -> None:
        """Publishes the configured models; nothing is started yet.

        Args:
            config: of the node.
            clock: of the node.
            on_bug: logs a bug of ours and returns its reference.
            publisher: routes requests to what is served.
            launch: starts one worker.
            scales: what weighs models, and the node itself.

        Raises:
            InvalidConfiguration: a model, or the node itself, is certainly larger than the memory that there is.
        """
        self._config = config
        self._clock = clock
        self._on_bug = on_bug
        self._publisher = publisher
        self._launch = launch
        self._published: dict[str, Berth] = {}
        self._all: list[Berth] = []
        self._unloaded: dict[str, Bundle] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._eager: set[asyncio.Task[None]] = set()
        # Who starts a node wants it to be ready soon; later, waking must not take every core from who is awake.
        self.harbour = Harbour(config.memory_bytes, max(1, len(config.models)), clock.now_ns, on_bug, scales)
        self._loader = Loader(self, config)
        for model in config.models:
            try:
                self.publish(self.enter(model))
            except NotReady as error:
                raise InvalidConfiguration(error.message) from None

    # --- what there is -------------------------------------------------------------------------------------------

    @property
    def services(self) -> Sequence[Berth]:
        """The models that requests reach."""
        return tuple(self._published.values())

    @property
    def everything(self) -> Sequence[Berth]:
        """These, those that are being loaded, and those that have requests left to answer."""
        return tuple(self._all)

    @property
    def ready(self) -> bool:
        """Whether every model can answer, at once or after its wake."""
        return all(berth.ready for berth in self._published.values())

    def published(self, name: str) -> Berth | None:
        """The model that requests for that name reach."""
        return self._published.get(name)

    def was_unloaded(self, name: str) -> bool:
        """Whether it was served, and is not any more."""
        return name in self._unloaded

    def index(self) -> list[IndexEntry]:
        """Every model that is served, comes or goes, and what else the registry has, by name."""
        entries = {name: self._entry(berth) for name, berth in self._published.items()}
        for berth in self._all:
            name, version = berth.name, str(berth.config.bundle.version)
            if name not in entries and name not in self._loader.coming:
                entries[name] = IndexEntry(name, version, "UNLOADING")
        for name, version in self._loader.coming.items():
            entries.setdefault(name, IndexEntry(name, version, "LOADING"))
        for name, bundle in self._unloaded.items():
            entries.setdefault(name, IndexEntry(name, str(bundle.version), "UNAVAILABLE", "unloaded"))
        if self._config.registry is not None:
            for name, newest in self._config.registry.newest_versions().items():
                entries.setdefault(name, IndexEntry(name, str(newest), "UNAVAILABLE", "not loaded"))
        return [entries[name] for name in sorted(entries)]

    def _entry(self, berth: Berth) -> IndexEntry:
        name, version = berth.name, str(berth.config.bundle.version)
        phase = self.harbour.phase(berth)
        if berth.ready:
            return IndexEntry(name, version, "READY", "" if phase is Phase.AWAKE else str(phase))
        if phase in (Phase.WAKING, Phase.WAITING) and not berth.failure:
            return IndexEntry(name, version, "LOADING")
        return IndexEntry(name, version, "UNAVAILABLE", berth.failure or "it has no worker at the moment")

    # --- the node's life -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Wake every model and wait until all are awake.

        Where memory is bounded, those are woken that fit, in their order, and waited for a few seconds: a model that is
        asked before its turn is woken then. One that cannot be woken is left to who asks it: a node of many models does
        not stay away for one.

        Raises:
            SetpointError: one could not be woken.
        """
        if self.harbour.memory_bytes:
            await self._start_some()
            return
        waking = [asyncio.create_task(self.harbour.awaken(berth)) for berth in self.services]
        try:
            await asyncio.gather(*waking)
        finally:
            for task in waking:
                task.cancel()
            await asyncio.gather(*waking, return_exceptions=True)
        self.harbour.set_wakes_at_once(max(1, read_machine().cores // 2))

    async def _start_some(self) -> None:
        cores = read_machine().cores
        self.harbour.set_wakes_at_once(cores)
        for berth in self.services:
            if self.harbour.has_room(berth):
                task = asyncio.create_task(self.harbour.awaken(berth))
                self._eager.add(task)
                task.add_done_callback(self._woken)
                await asyncio.sleep(0)  # it is in its turn now, and counts for the room of the next
        if self._eager:
            await asyncio.wait(self._eager, timeout=_START_S)
        self.harbour.set_wakes_at_once(max(1, cores // 2))

    def _woken(self, task: asyncio.Task[None]) -> None:
        self._eager.discard(task)
        if not task.cancelled():
            task.exception()  # the harbour has told of it

    def stop_loading(self) -> None:
        """Give up loads that have not come to their end, and begin no more."""
        self._loader.stop()

    def sweep(self, now_ns: int) -> None:
        """Called a few times a second."""
        for berth in self.everything:
            try:
                berth.sweep(now_ns)
            except Exception as bug:
                # A bug in one sweep must not end all that follow: nothing would ever time out again.
                self._on_bug(bug)
        self.harbour.sweep(now_ns)

    def abandon(self) -> None:
        """Refuse what is not answered by now, and tell all workers to end."""
        self.stop_loading()
        self.harbour.stop()
        for berth in self.everything:
            berth.abandon()

    async def close(self) -> None:
        """End everything and wait until it has ended. A node drains before it closes."""
        self.abandon()
        for task in self._eager:
            task.cancel()
        await asyncio.gather(*(berth.close() for berth in self.everything))
        await asyncio.gather(self._loader.stopped(), *self._leaving, return_exceptions=True)
        await self.harbour.close()

    # --- loading and unloading -----------------------------------------------------------------------------------

    async def load(self, name: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Serve what the registry has under a name now; see ``Loader.load``."""
        await self._loader.load(name, parameters)

    async def unload(self, name: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Serve a model no more; see ``Loader.unload``."""
        await self._loader.unload(name, parameters)

    # --- for the loader ------------------------------------------------------------------------------------------

    def enter(self, model: ModelConfig) -> Berth:
        """A model in a version that is not here yet: parked, and reached by nobody.

        Raises:
            NotReady: it is certainly larger than the memory that there is.
        """
        model = msgspec.structs.replace(model, room_bytes=self.harbour.room_bytes)
        if judged_elsewhere(model, engine_fingerprint):
            _log.warning(
                "variants of %s were judged on another processor or with other libraries, so the original alone serves;"
                " setpoint optimize judges them here",
                model.bundle.reference,
            )
        berth = _kind_of(model)(model, self._config.limits, self._clock, self._on_bug, self.harbour, self._launch)
        self.harbour.enter(berth, need_of(model, berth.variants))
        self._all.append(berth)
        return berth

    def publish(self, berth: Berth) -> None:
        """Let requests for its name go to it."""
        self._published[berth.name] = berth
        self._unloaded.pop(berth.name, None)
        self._publisher.publish(berth)

    def withdraw(self, name: str) -> Berth | None:
        """Let no more requests go to the model of that name; returns it, None where there is none."""
        berth = self._published.pop(name, None)
        if berth is not None:
            self._publisher.withdraw(name)
            self._unloaded[name] = berth.config.bundle
        return berth

    def let_go(self, berth: Berth, timeout_s: float) -> None:
        """Answer what it has accepted, end it, and forget it."""
        task = asyncio.create_task(self._go(berth, timeout_s))
        self._leaving.add(task)
        task.add_done_callback(self._gone)

    async def _go(self, berth: Berth, timeout_s: float) -> None:
        held_bytes = await self.harbour.scales.of(berth)
        try:
            await self.harbour.leave(berth, timeout_s)
        finally:
            self._all.remove(berth)
        if held_bytes:
            _log.info("model %s is unloaded; it held %s", berth.reference, bytes_text(held_bytes))

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._leaving.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._on_bug(bug)


def _kind_of(model: ModelConfig) -> type[Berth]:
    if isinstance(model.bundle.manifest.composition, Composition):
        from setpoint.node.composition import CompositionBerth  # only where there is one

        return CompositionBerth
    return Berth
