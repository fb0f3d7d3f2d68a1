"""The node: one process that owns a machine's data plane, from the first worker's start to the last answer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import uuid
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING

from setpoint.core import InvalidConfiguration, MissingExtra, NotReady, SystemClock
from setpoint.node.admin_routes import admin_routes
from setpoint.node.allocator import keep_freed_memory
from setpoint.node.config import NodeConfig
from setpoint.node.door import Door
from setpoint.node.exposition import exposition
from setpoint.node.fleet import Fleet
from setpoint.node.fleet_metrics import fleet_families
from setpoint.node.gateway import Gateway
from setpoint.node.heartbeat import Heartbeat
from setpoint.node.http import Cors, Exchange, HttpServer, ServerTls
from setpoint.node.scales import Scales
from setpoint.node.service import ModelService
from setpoint.node.shared_memory import Regions
from setpoint.observe import CONTENT_TYPE, render
from setpoint.wire import refuse_overflow
from setpoint.worker import ForkServers, WorkerHandle

if TYPE_CHECKING:
    from setpoint.node.grpc import GrpcServer

_log = logging.getLogger("setpoint.node")
_SWEEP_S = 0.1
_COLLECT_AFTER = (50_000, 20, 20)
Listening = Callable[[str, int, int], None]
"""Told the host, the port, and gRPC's port, 0 without."""


def _nobody(exchange: Exchange) -> None:
    raise NotReady("the node is being made")


class Node:
    """Serves the models of its configuration until it is told to stop."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        clock = SystemClock()
        self._now_ns = clock.now_ns
        self._started = False
        self._stop = asyncio.Event()
        self._tls = None
        if config.tls_certificate is not None:
            self._tls = ServerTls(config.tls_certificate, config.tls_key)
        self.server = HttpServer(_nobody, config.limits, clock, log_bug)
        self._memory = Regions(config.shared_memory, config.limits.body_limit_bytes)
        door = Door(self.server, self._memory)
        gateway = Gateway(door, lambda: self.ready, repository=bool(config.admin_token))
        self._forks = ForkServers()
        with contextlib.suppress(OSError):  # then the first worker cannot be started either, and says why
            for threads in {model.threads for model in config.models}:
                self._forks.prepare(threads)  # it begins with its imports while the rest of the node is made
        launch = partial(WorkerHandle, nursery=self._forks)
        self.fleet = Fleet(config, clock, log_bug, gateway, launch, Scales(self._forks.pids))
        for (method, path), handler in admin_routes(self.fleet, config.admin_token, log_bug).items():
            gateway.router.add(method, path, handler)
        gateway.router.add("GET", "/metrics", self._metrics)
        route = door.unpacking(gateway.router.route)
        self.server.handler = Cors(config.cors_origins, route).handle if config.cors_origins else route
        self.grpc = None if config.grpc_port is None else self._grpc_server()
        self._heartbeat: Heartbeat | None = None

    @property
    def ready(self) -> bool:
        """Every model can answer, at once or after its wake, and the node is not shutting down."""
        return self._started and not self.server.draining and self.fleet.ready

    @property
    def services(self) -> Sequence[ModelService]:
        """The models that requests reach now."""
        return self.fleet.services

    def _grpc_server(self) -> GrpcServer:
        try:
            from setpoint.node.grpc import GrpcServer  # 50 ms and a thread, for those only who ask for it
        except ModuleNotFoundError as error:
            raise MissingExtra(error.name or "grpcio", "grpc", "serving over gRPC") from error
        limits, token = self._config.limits, self._config.admin_token
        return GrpcServer(self.fleet, lambda: self.ready, limits, token, self._memory, log_bug)

    async def run(self, on_listening: Listening, on_ready: Callable[[], None]) -> None:
        """Listen, start the workers, serve until ``stop``, drain.

        Raises:
            ConfigurationError, ModelError: it could not start; nothing is left running.
        """
        host, port = await self.server.listen(self._config.host, self._config.port, self._tls)
        grpc_port = 0
        sweeper = asyncio.create_task(self._sweep())
        starting = asyncio.create_task(self.fleet.start())
        stopped = asyncio.create_task(self._stop.wait())
        try:
            self._heartbeat = Heartbeat(self._now_ns)
            if self.grpc is not None:
                grpc_port = await self.grpc.listen(host, self._config.grpc_port or 0, self._tls)
            on_listening(host, port, grpc_port)
            await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                self._started = True
                _settle()
                on_ready()
                await stopped
            await self._drain()
        finally:
            starting.cancel()
            stopped.cancel()
            await asyncio.gather(starting, stopped, return_exceptions=True)
            await self.server.close()
            if self.grpc is not None:
                await self.grpc.close()
            await self.fleet.close()
            sweeper.cancel()
            self._forks.close()
            if self._heartbeat is not None:
                self._heartbeat.close()

    def reload_tls(self) -> None:
        """Read the certificate and its key again; if they are no good, go on with those that were."""
        if self._tls is None:
            return
        try:
            self._tls.reload()
        except InvalidConfiguration as error:
            _log.error("%s; the node goes on with the certificate that it has", error.message)
        else:
            _log.info("the TLS certificate was read again")

    def stop(self) -> None:
        """Begin to shut down: accepted requests are answered, new ones refused."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether ``stop`` was called."""
        return self._stop.is_set()

    async def _drain(self) -> None:
        self.fleet.stop_loading()
        timeout_s = self._config.limits.drain_timeout_s
        draining: list[Coroutine[None, None, object]] = [self.server.drain(timeout_s, self._give_up)]
        if self.grpc is not None:
            draining.append(self.grpc.drain(timeout_s, self._give_up))
        await asyncio.gather(*draining)

    def _give_up(self) -> None:
        _log.warning(
            "%d requests were not answered within the %g s that draining may take (--drain-timeout)",
            self.server.in_flight + (self.grpc.in_flight if self.grpc else 0),
            self._config.limits.drain_timeout_s,
        )
        self.fleet.abandon()

    def _metrics(self, exchange: Exchange) -> None:
        server = self.server
        lag = self._heartbeat.lag if self._heartbeat is not None else None
        text = exposition(
            self.fleet.everything, server.responses, server.connections, server.in_flight, os.getpid(), lag
        )
        families = [*fleet_families(self.fleet), *(self.grpc.families() if self.grpc else ())]
        exchange.respond(200, text + render(families), CONTENT_TYPE)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            self.fleet.sweep(self._now_ns())
            self._forks.bury_strangers()


def _settle() -> None:
    """Tell the garbage collector that what is here will stay, and to look less often.

    Lists of numbers are what it counts and what a request is made of: at its own pace it walks the whole heap in the
    middle of reading one, and reading large ones takes seven times as long.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def log_bug(bug: BaseException) -> str:
    """Log a bug of ours with its traceback; returns the reference that the client is given."""
    reference = uuid.uuid4().hex[:12]
    _log.error("bug %s", reference, exc_info=bug)
    return reference


def run_node(config: NodeConfig, on_listening: Listening, on_ready: Callable[[], None]) -> int:
    """Run a node until SIGINT or SIGTERM; a second signal leaves at once.

    Args:
        on_listening: called with host, port and gRPC's port (0 without) when connections are accepted.
        on_ready: called when every worker of every model is.

    Returns:
        0 after an orderly end.

    Raises:
        ConfigurationError, ModelError: it could not start.
    """
    keep_freed_memory()
    import uvloop  # only the serving process needs it

    refuse_overflow()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(config, on_listening, on_ready))


async def _run(config: NodeConfig, on_listening: Listening, on_ready: Callable[[], None]) -> int:
    loop = asyncio.get_running_loop()
    node = Node(config)

    def stop() -> None:
        if node.stopping:
            # Workers see their channels close and end by themselves.
            os._exit(130)
        node.stop()

    def starter_is_gone() -> None:
        if not os.read(config.lifeline, 4096):
            loop.remove_reader(config.lifeline)
            node.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    if config.tls_certificate is not None:
        loop.add_signal_handler(signal.SIGHUP, node.reload_tls)
    if config.lifeline >= 0:
        loop.add_reader(config.lifeline, starter_is_gone)
    await node.run(on_listening, on_ready)
    return 0
