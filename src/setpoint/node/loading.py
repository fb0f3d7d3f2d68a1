"""Loading and unloading models while the node serves others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from setpoint.core import (
    BundleNotFound,
    ConfigurationError,
    Draining,
    InvalidRequest,
    ModelError,
    NotFound,
    NotReady,
)
from setpoint.node.berth import Berth
from setpoint.node.config import ModelConfig, NodeConfig
from setpoint.node.memory_need import bytes_text
from setpoint.registry import Bundle, Reference, Registry

if TYPE_CHECKING:
    from setpoint.node.fleet import Fleet

_log = logging.getLogger("setpoint.node")


class Loader:
    """Brings models into a fleet and takes them out of it: of one name one after the other, of several at once.

    Attributes:
        coming: versions that are being loaded, by name.
    """

    def __init__(self, fleet: Fleet, config: NodeConfig) -> None:
        self.coming: dict[str, str] = {}
        self._fleet = fleet
        self._config = config
        self._locks: dict[str, asyncio.Lock] = {}
        self._loads: set[asyncio.Task[None]] = set()
        self._closing = False

    def stop(self) -> None:
        """Give up what has not come to its end, and begin no more."""
        self._closing = True
        for task in self._loads:
            task.cancel()

    async def stopped(self) -> None:
        """Wait until nothing is being loaded or unloaded."""
        await asyncio.gather(*self._loads, return_exceptions=True)

    async def load(self, name: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Serve what the registry has under a name now; returns when requests reach it.

        Where the name is served already and the registry's answer has not changed, there is nothing to do. A version
        that is replaced answers what it has accepted.

        Args:
            name: of a model, or a reference such as ``sentiment:3`` or ``sentiment:champion``. After an alias, later
                loads of the bare name ask for that alias again, and so follow it where it was moved.
            parameters: of the V2 request. Overrides are refused: what is served is what the registry holds.

        Raises:
            InvalidRequest: there is no registry, an override was given, or the model cannot be loaded.
            NotFound: the registry has no such model.
            NotReady: there is no memory for it.
            Draining: the node is shutting down.
        """
        _refuse_overrides(parameters)
        if self._config.registry is None:
            raise InvalidRequest("this node was started without a registry, so it cannot load models")
        try:
            reference = Reference.parse(name)
        except ConfigurationError as error:
            raise InvalidRequest(error.message) from None
        await self._begin(self._load(reference, self._config.registry))

    async def unload(self, name: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Serve a model no more: requests for it are refused from now on, those accepted are answered.

        Returns when that has begun; the memory is free when ``index`` says ``UNAVAILABLE``.

        Raises:
            NotFound: no model of that name was ever served here.
            Draining: the node is shutting down.
        """
        await self._begin(self._unload(name))

    async def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it to its end, also when whoever asked has left; but not beyond the node's own end."""
        if self._closing:
            work.close()
            raise Draining("the node is shutting down")
        task = asyncio.create_task(work)
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._closing and task.done():
                raise Draining("the node is shutting down; the model was not loaded") from None
            raise

    async def _load(self, reference: Reference, registry: Registry) -> None:
        name = reference.name
        async with self._locks.setdefault(name, asyncio.Lock()):
            current = self._fleet.published(name)
            follows = "" if current is None else current.config.follows
            if reference.alias:
                follows = str(reference)
            wanted = follows or name if reference == Reference(name) else str(reference)
            try:
                bundle = await asyncio.to_thread(registry.resolve, wanted)
                model = self._config_of(bundle, await asyncio.to_thread(registry.folder, bundle), follows, current)
            except BundleNotFound as error:
                raise NotFound(error.message) from None
            except ConfigurationError as error:
                raise InvalidRequest(f"model {name!r} cannot be loaded: {error.message}") from None
            if current is not None and current.config == model and not current.failure:
                return
            self.coming[name] = str(bundle.version)
            try:
                await self._replace(current, model)
            finally:
                del self.coming[name]

    async def _replace(self, current: Berth | None, model: ModelConfig) -> None:
        """Bring a model up, let requests go to it, and let the one before it go."""
        if current is not None and current.reference == model.bundle.reference:
            await self._rename(current, model)
            return
        berth = self._fleet.enter(model)
        if current is not None:
            self._check_both_fit(current, berth)
            current.pinned = True
        try:
            await self._awaken(berth)
        except BaseException:
            if current is not None:
                current.pinned = False
            self._fleet.let_go(berth, 0.0)
            raise
        self._fleet.publish(berth)
        size_text = bytes_text(await self._fleet.harbour.scales.of(berth))
        if current is None:
            _log.info("model %s is loaded and holds %s", berth.reference, size_text)
        else:
            _log.info("model %s takes over from %s and holds %s", berth.reference, current.reference, size_text)
            self._fleet.let_go(current, self._config.limits.drain_timeout_s)

    async def _rename(self, current: Berth, model: ModelConfig) -> None:
        """The same bundle under other aliases, or one that could not be woken before: no other workers are needed."""
        if current.config != model:
            current.config = model
            self._fleet.publish(current)
        if current.failure:
            self._fleet.harbour.forgive(current)
            await self._awaken(current)

    async def _awaken(self, berth: Berth) -> None:
        try:
            async with asyncio.timeout(self._config.limits.load_timeout_s):
                await self._fleet.harbour.awaken(berth)
        except TimeoutError:
            message = f"there was no room to load model {berth.name!r} for as long as loading may take"
            raise NotReady(message) from None
        except (ModelError, ConfigurationError) as error:
            raise InvalidRequest(f"model {berth.reference} cannot be loaded: {error.message}") from None

    def _check_both_fit(self, current: Berth, berth: Berth) -> None:
        harbour = self._fleet.harbour
        if not current.awake or harbour.size_bytes(current) + harbour.size_bytes(berth) <= harbour.budget_bytes:
            return
        self._fleet.let_go(berth, 0.0)
        raise NotReady(
            f"version {berth.config.bundle.version} of model {berth.name!r} needs "
            f"{bytes_text(harbour.size_bytes(berth))} beside the {bytes_text(harbour.size_bytes(current))} of version "
            f"{current.config.bundle.version}, more than the {bytes_text(harbour.budget_bytes)} that --memory leaves "
            "for models; unload it first"
        )

    async def _unload(self, name: str) -> None:
        async with self._locks.setdefault(name, asyncio.Lock()):
            berth = self._fleet.withdraw(name)
            if berth is None:
                if not self._fleet.was_unloaded(name):
                    raise NotFound(f"no model is called {name[:80]!r} here")
                return
            self._fleet.let_go(berth, self._config.limits.drain_timeout_s)

    def _config_of(self, bundle: Bundle, folder: Path, follows: str, current: Berth | None) -> ModelConfig:
        if current is not None:
            return msgspec.structs.replace(current.config, bundle=bundle, folder=folder, follows=follows)
        terms = self._config.loaded
        return ModelConfig(bundle, folder, terms.workers, terms.threads, terms.device, terms.objective, follows=follows)


def _refuse_overrides(parameters: Mapping[str, Any] | None) -> None:
    for name in parameters or {}:
        if name.startswith("file:"):
            raise InvalidRequest(
                f"parameter {name[:80]!r}: files cannot be sent with a load; what is served is what the registry "
                "holds: setpoint pack PATH, then load it by its name"
            )
        if name == "config":
            raise InvalidRequest(
                "parameter 'config': a model's configuration is part of its bundle and of how the node was started; "
                "it cannot be sent with a load"
            )
