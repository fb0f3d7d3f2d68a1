"""The listening side: calls to handlers, errors to status codes, draining.

The library is gRPC's own. It runs on the node's event loop; what it is given and gives are bytes, and the messages are
ours to read (``wire.grpc``), so that tensors are not copied into protobuf's memory and out of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Protocol

import grpc
import grpc.aio

from setpoint.core import InternalError, InvalidConfiguration, Limits, SetpointError
from setpoint.node.admin_routes import Repository
from setpoint.node.grpc.calls import HEALTH, INFERENCE, About, reflections
from setpoint.node.grpc.catalogue import Catalogue, Served
from setpoint.node.grpc.inference import Inference
from setpoint.node.grpc.memory import memory_calls
from setpoint.node.grpc.repository import RepositoryCalls
from setpoint.node.http import ServerTls
from setpoint.node.shared_memory import Regions
from setpoint.observe import Family, Sample
from setpoint.wire import grpc as wire

_FLUSH_S = 1.0
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_ENVELOPE_BYTES = 1 << 20
"""What names and shapes may take beside tensors of the body limit's size."""
Unary = Callable[[bytes, Any], Awaitable[bytes]]


def _credentials(tls: ServerTls) -> Any:
    """The node's certificate; asked for at each handshake, so that a renewed one is used."""
    known = [tls.pair]

    def renewed() -> Any:
        if tls.pair is known[0]:
            return None
        known[0] = tls.pair
        return grpc.ssl_server_certificate_configuration([known[0]])

    return grpc.dynamic_ssl_server_credentials(grpc.ssl_server_certificate_configuration(known), renewed)


class FleetPort(Served, Repository, Protocol):
    """What calls ask of the node's models."""


class GrpcServer:
    """Serves ``inference.GRPCInferenceService``, ``grpc.health.v1.Health`` and reflection.

    Attributes:
        responses: how often each status code was answered, by its name.
        in_flight: calls with one answer that do not have it yet.
    """

    def __init__(
        self,
        fleet: FleetPort,
        ready: Callable[[], bool],
        limits: Limits,
        admin_token: str,
        memory: Regions,
        on_bug: Callable[[BaseException], str],
    ) -> None:
        """Must be called on the event loop that it will run on.

        Args:
            fleet: the models that are served now, and how they come and go.
            ready: whether all of them can answer.
            limits: of the node.
            admin_token: that loading and unloading need; empty where nobody may.
            memory: regions that clients share with the node.
            on_bug: logs a bug of ours and returns the reference under which it was logged.
        """
        catalogue = Catalogue(fleet, memory, limits)
        self._on_bug = on_bug
        self._about = About(catalogue, ready, limits, repository=bool(admin_token))
        self._memory_calls = memory_calls(memory)
        self._inference = Inference(catalogue, limits)
        self._repository = RepositoryCalls(fleet, admin_token)
        self._server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", limits.body_limit_bytes + _ENVELOPE_BYTES),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", limits.header_limit_bytes),
                ("grpc.absolute_max_metadata_size", limits.header_limit_bytes),
                ("grpc.so_reuseport", 0),  # two nodes on one port would share its calls silently
            ),
            maximum_concurrent_rpcs=limits.grpc_call_limit,
        )
        self._register()
        self.responses: Counter[str] = Counter()
        self.in_flight = 0

    def _register(self) -> None:
        about, inference = self._about, self._inference
        methods = {name: self._unary(_immediate(call)) for name, call in about.calls().items()}
        methods |= {name: self._unary(call) for name, call in self._repository.calls().items()}
        methods |= {name: self._unary(_immediate(call)) for name, call in self._memory_calls.items()}
        methods["ModelInfer"] = self._unary(inference.infer)
        methods["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._streaming(inference.stream))
        health = {
            "Check": self._unary(_immediate(about.check)),
            "Watch": grpc.unary_stream_rpc_method_handler(self._streaming(about.watch)),
        }
        services = {INFERENCE: methods, HEALTH: health}
        for name, answer in reflections.items():
            services[name] = {
                "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(self._streaming(answer)),
            }
        for name, handlers in services.items():
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))

    async def listen(self, host: str, port: int, tls: ServerTls | None = None) -> int:
        """Start accepting; port 0 picks a free one. Returns the port.

        Args:
            host, port: where.
            tls: with it, everything is encrypted.

        Raises:
            InvalidConfiguration: the address is taken or not ours.
        """
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound: int
            if tls is None:
                bound = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, _credentials(tls))
        except RuntimeError as error:
            raise InvalidConfiguration(
                f"cannot listen for gRPC on {address}; choose another port with --grpc-port"
            ) from error
        await self._server.start()
        return bound

    async def drain(self, timeout_s: float, give_up: Callable[[], None]) -> None:
        """Take no new calls and answer those that were taken.

        Args:
            timeout_s: how long that may take.
            give_up: called when that is over, to answer what is left before its calls are ended.
        """
        self._about.drain()
        self._inference.drain()
        stopped = asyncio.create_task(self._server.stop(timeout_s + _FLUSH_S))
        await asyncio.wait((stopped,), timeout=timeout_s)
        if not stopped.done():
            give_up()
        await stopped

    async def close(self) -> None:
        """Stop listening and drop what is left."""
        await self._server.stop(None)

    def families(self) -> Iterable[Family]:
        """What ``GET /metrics`` says of it."""
        yield Family(
            "setpoint_grpc_responses_total",
            "counter",
            "gRPC calls and streams by the status that ended them.",
            tuple(Sample({"code": code}, count) for code, count in sorted(self.responses.items())),
        )
        yield Family(
            "setpoint_grpc_in_flight",
            "gauge",
            "gRPC calls not yet answered, without streams.",
            (Sample({}, self.in_flight),),
        )

    # --- every call ------------------------------------------------------------------------------------------------

    def _unary(self, call: Unary) -> Any:
        async def handle(body: bytes, context: Any) -> bytes:
            self.in_flight += 1
            try:
                answer = await call(body, context)
            except Exception as error:
                self._refuse(context, error)
                return b""  # not sent beside a status that is not OK
            finally:
                self.in_flight -= 1
            self.responses["OK"] += 1
            return answer

        return grpc.unary_unary_rpc_method_handler(handle)

    def _streaming(self, call: Callable[[Any, Any], Awaitable[None]]) -> Callable[[Any, Any], Awaitable[None]]:
        async def handle(message: bytes | AsyncIterator[bytes], context: Any) -> None:
            try:
                await call(message, context)
            except Exception as error:
                self._refuse(context, error)
            else:
                self.responses["OK"] += 1

        return handle

    def _refuse(self, context: Any, error: Exception) -> None:
        """Let the call end with the error's status. What is no error of ours to give is a bug, which is logged.

        Not by ``context.abort``: it raises, and the library keeps what it raised in rings of frames and tracebacks,
        forty objects a call, for the garbage collector to stop everything for.
        """
        if context.done() or context.cancelled():
            return  # the client has left, which also makes writing to it fail
        if not isinstance(error, SetpointError):
            error = InternalError(f"a bug in Setpoint, logged under {self._on_bug(error)}")
        code = _CODES[wire.code_of(error)]
        self.responses[code.name] += 1
        context.set_code(code)
        context.set_details(error.message)
        context.set_trailing_metadata(wire.trailers_of(error))


def _immediate(call: Callable[[bytes], bytes]) -> Unary:
    async def answer(body: bytes, _: Any) -> bytes:
        return call(body)

    return answer
