"""A composition as a node serves it: one model outside, several inside, which wake, rest and end together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from setpoint.core import COMPOSITION_ENGINE, PARTS_FOLDER, Clock, Composition, Limits
from setpoint.node.berth import Berth, held_bytes
from setpoint.node.composition.graph import Graph
from setpoint.node.composition.runs import Runs
from setpoint.node.config import ModelConfig
from setpoint.node.crew import NS, Launch
from setpoint.node.machinery import Machinery
from setpoint.node.service import ModelService
from setpoint.node.slot import Slot


class Part(ModelService):
    """One model of a composition. Requests reach it from the steps alone."""

    @property
    def refusal(self) -> str:
        """Why a request would not even be queued; empty where it would."""
        return self._crew.refusal

    def end_workers(self) -> None:
        """Tell the workers to end; ``start`` brings others."""
        self._crew.close()

    async def ended(self) -> None:
        """Wait until no worker is left."""
        await self._crew.ended()


class Parts:
    """The workers of all parts, as one crew."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts

    @property
    def slots(self) -> Sequence[Slot]:
        """None of its own: each part tells of its workers itself."""
        return ()

    @property
    def devices(self) -> tuple[str, ...]:
        """As ``slots``."""
        return ()

    @property
    def refusal(self) -> str:
        """Why a request would find a step without workers; empty where it would not."""
        return next((part.refusal for part in self._parts if part.refusal), "")

    @property
    def ready(self) -> bool:
        """Whether every step has a worker."""
        return all(part.ready for part in self._parts)

    async def start(self) -> None:
        """Start the workers of all parts and wait until they are ready.

        Raises:
            SetpointError: a model cannot be loaded. Some workers may be left; ``close`` ends them.
        """
        starting = [asyncio.create_task(part.start()) for part in self._parts]
        try:
            await asyncio.gather(*starting)
        finally:
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)

    def close(self) -> None:
        """Tell all workers to end."""
        for part in self._parts:
            part.end_workers()

    async def ended(self) -> None:
        """Wait until no worker is left."""
        await asyncio.gather(*(part.ended() for part in self._parts))

    def sweep(self, now_ns: int) -> None:
        """Called a few times a second."""
        for part in self._parts:
            part.sweep(now_ns)


class CompositionBerth(Berth):
    """A composition in one version; see ``Berth``. Its objective is that of the whole, and bounds each step too."""

    def _machinery(
        self, limits: Limits, clock: Clock, on_bug: Callable[[BaseException], str], launch: Launch
    ) -> Machinery:
        config, manifest = self.config, self.manifest
        composition, signature = manifest.composition, manifest.signature
        assert isinstance(composition, Composition), "a berth of this kind is made for compositions"
        assert signature is not None, "a composition takes and gives tensors"
        parts = {
            name: Part(_part_config(config, composition, name), limits, clock, on_bug, launch)
            for name in composition.parts
        }
        self._parts = tuple(parts.values())
        latency = config.objective.latency if config.objective is not None else None
        bound_ns = latency.bound_ns if latency is not None else int(limits.request_timeout_s * NS)
        graph = Graph(composition, signature, parts)
        runs = Runs(graph, self._ledger, self.metrics, limits, clock.now_ns, bound_ns)
        return Machinery((COMPOSITION_ENGINE,), runs, runs, Parts(self._parts))

    @property
    def parts(self) -> Sequence[ModelService]:
        """The models of its steps."""
        return self._parts

    def memory_bytes(self) -> int:
        """What the workers of all its models hold; see ``Berth.memory_bytes``."""
        return sum(held_bytes(part) for part in self._parts)


def _part_config(config: ModelConfig, composition: Composition, name: str) -> ModelConfig:
    """A part is served as the whole was asked to be, but for what only the whole has: its cache and its variants."""
    bundle = msgspec.structs.replace(
        config.bundle, name=f"{config.bundle.name}/{name}", manifest=composition.parts[name], files=(), aliases=()
    )
    folder = config.folder / PARTS_FOLDER / name
    return msgspec.structs.replace(config, bundle=bundle, folder=folder, cache=None, variant="", follows="")
