"""Open Inference Protocol V2 over gRPC, ``grpc://HOST:PORT/MODEL``: any server that speaks it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import InvalidConfiguration, InvalidRequest, MissingExtra, NotReady, TensorSpec, encode_bytes_tensor
from setpoint.plan.load.targets.asking import TIMEOUT_S
from setpoint.plan.load.targets.options import RequestOptions
from setpoint.plan.load.targets.v2_json import arrays_of
from setpoint.plan.load.transport import Done, Transport

_SERVICE = "/inference.GRPCInferenceService"
_MESSAGE_LIMIT_BYTES = (1 << 31) - 1
_OPTIONS = (
    ("grpc.max_send_message_length", _MESSAGE_LIMIT_BYTES),
    ("grpc.max_receive_message_length", _MESSAGE_LIMIT_BYTES),
)
_REFUSED = 503
"""What the open loop counts as a refusal."""


def recognises(url: SplitResult) -> bool:
    """Whether the URL says gRPC."""
    return url.scheme == "grpc"


class GrpcTarget(msgspec.Struct, frozen=True):
    """See ``transport.Target``. Messages are bytes that were made before the run."""

    url: str
    address: str
    messages: tuple[bytes, ...]
    metadata: tuple[tuple[str, str], ...]
    name: str = "V2 gRPC"

    @property
    def requests(self) -> int:
        """How many different requests there are."""
        return len(self.messages)

    def check(self, body: bytes) -> str | None:
        """What is wrong with an answer."""
        return None if body else "an empty inference response"

    def open(self, loop: asyncio.AbstractEventLoop, limit: int, done: Done) -> Transport:
        """One channel, which makes the connections that it wants."""
        return _GrpcTransport(self, limit, done)


def target(url: SplitResult, options: RequestOptions) -> GrpcTarget:
    """Read the model's metadata and prepare requests.

    Raises:
        SetpointError: the server does not know the model, or does not take the requests.
    """
    grpc = _grpc()
    from setpoint.wire import grpc as wire

    name = url.path.strip("/").removeprefix("v2/models/")
    if not name or "/" in name or not url.hostname or not url.port:
        raise InvalidConfiguration(f"expected grpc://HOST:PORT/MODEL, got {url.geturl()!r}")
    if options.body is not None:
        raise InvalidConfiguration("--body goes with JSON; gRPC requests are made up, or cut from --data FILE.npz")
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    address = f"{host}:{url.port}"
    metadata = tuple(options.headers.items())
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:

        def ask(call: str, message: bytes) -> bytes:
            method = channel.unary_unary(f"{_SERVICE}/{call}", _same, _same, _registered_method=True)
            try:
                answer: bytes = method(message, timeout=TIMEOUT_S, metadata=metadata)
            except grpc.RpcError as error:
                if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise NotReady(f"{address} does not answer {call}: {error.details()}") from error
                raise InvalidRequest(f"{address} answers {call} with {error.code().name}: {error.details()}") from error
            return answer

        asked = wire.message_class("inference.ModelMetadataRequest")(name=name).SerializeToString()
        metadata_of = wire.message_class("inference.ModelMetadataResponse").FromString(ask("ModelMetadata", asked))
        specs = [TensorSpec(each.name, each.datatype, tuple(each.shape)) for each in metadata_of.inputs]
        if not specs:
            raise InvalidConfiguration(f"model {name!r} at {address} has no tensor inputs")
        messages = tuple(message_of(name, arrays, specs) for arrays in arrays_of(specs, options))
        ask("ModelInfer", messages[0])
    return GrpcTarget(url.geturl(), address, messages, metadata)


def message_of(model: str, arrays: Mapping[str, NDArray[Any]], specs: list[TensorSpec]) -> bytes:
    """A ``ModelInferRequest`` with raw contents."""
    from setpoint.wire import grpc as wire

    request = wire.message_class("inference.ModelInferRequest")(model_name=model)
    for spec in specs:
        array = np.ascontiguousarray(arrays[spec.name])
        request.inputs.add(name=spec.name, datatype=spec.datatype, shape=array.shape)
        raw = encode_bytes_tensor(array) if array.dtype.hasobject else array.tobytes()
        request.raw_input_contents.append(raw)
    return bytes(request.SerializeToString())


class _GrpcTransport:
    """See ``transport.Transport``: calls of one channel, followed by their callbacks."""

    def __init__(self, target: GrpcTarget, limit: int, done: Done) -> None:
        grpc = _grpc()
        self.opened = 1
        self._channel = grpc.aio.insecure_channel(target.address, options=_OPTIONS)
        self._call = self._channel.unary_unary(f"{_SERVICE}/ModelInfer", _same, _same, _registered_method=True)
        codes = grpc.StatusCode
        refusals = (codes.UNAVAILABLE, codes.RESOURCE_EXHAUSTED, codes.DEADLINE_EXCEEDED)
        self._refusals = tuple(code.value[0] for code in refusals)
        self._messages = target.messages
        self._metadata = target.metadata
        self._limit = limit
        self._done = done
        self._busy: dict[int, Any] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def in_flight(self) -> int:
        """Requests without an answer."""
        return len(self._busy)

    def send(self, token: int, request: int) -> bool:
        """Begin the call."""
        if len(self._busy) >= self._limit:
            return False
        call = self._call(self._messages[request], metadata=self._metadata)
        self._busy[token] = call
        task = asyncio.ensure_future(self._follow(token, call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _follow(self, token: int, call: Any) -> None:
        grpc = _grpc()
        try:
            body: bytes = await call
        except grpc.RpcError as error:
            if self._busy.pop(token, None) is None:
                return
            code, text = error.code(), str(error.details()).encode()
            if code.value[0] in self._refusals:
                self._done(token, _REFUSED, text, "")
            else:
                self._done(token, 0, text, code.name.lower())
        else:
            if self._busy.pop(token, None) is not None:
                self._done(token, 200, body, "")

    def oldest(self) -> int | None:
        """The first of those in flight: dictionaries keep their order."""
        return next(iter(self._busy), None)

    def abandon(self, token: int) -> None:
        """Cancel the call."""
        self._busy.pop(token).cancel()

    def close(self) -> None:
        """Cancel what runs and close the channel."""
        for call in self._busy.values():
            call.cancel()
        self._busy.clear()
        task = asyncio.ensure_future(self._channel.close())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _same(message: bytes) -> bytes:
    return message


def _grpc() -> Any:
    try:
        import grpc
        import grpc.aio
    except ImportError as error:
        raise MissingExtra("grpcio", "grpc", "load over gRPC") from error
    return grpc
