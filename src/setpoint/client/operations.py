"""What can be asked of a node, without a socket: each operation is a generator of steps (``exchange``)."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from numpy.typing import ArrayLike, NDArray

from setpoint.client.exchange import Reply, Request, Send, Steps, TransportFailure
from setpoint.client.retrying import Retries, attempts
from setpoint.client.tensors import BINARY_TYPE, JSON_TYPE, decode_infer, encode_arguments, encode_infer
from setpoint.core import (
    Clock,
    InvalidConfiguration,
    InvalidRequest,
    ModelError,
    NotFound,
    TensorSpec,
)

PRIORITY_HEADER, TENANT_HEADER = "setpoint-priority", "setpoint-tenant"
_BINARY_EXTENSION = "binary_tensor_data"
_NS = 1_000_000_000


class ModelInfo(msgspec.Struct, frozen=True):
    """A model that a node serves.

    Attributes:
        name: what to call it.
        version: of its bundle.
        digest: of every byte of it; empty where the server does not say.
        ready: whether it can answer now.
        endpoints: what ``call`` can ask, as ``NAME/ENDPOINT``.
        inputs, outputs: what ``infer`` takes and gives; empty where tensors do not suffice.
    """

    name: str
    version: str = ""
    digest: str = ""
    ready: bool = True
    endpoints: tuple[str, ...] = ()
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()


class Terms(msgspec.Struct, frozen=True):
    """On what terms a client asks.

    Attributes:
        timeout_s: for the answer, tries included; sent along, so that the node does not compute what comes too late.
        retries: of what was refused or never arrived.
        headers: sent with every request.
    """

    timeout_s: float = 60.0
    retries: Retries = Retries()
    headers: dict[str, str] = {}

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            raise InvalidConfiguration(f"a timeout is above 0 s, got {self.timeout_s}")


class _Metadata(msgspec.Struct):
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]


class _Server(msgspec.Struct):
    extensions: list[str] = []


class _Models(msgspec.Struct):
    models: tuple[ModelInfo, ...]


class Operations:
    """Makes the steps of operations; keeps what models and the server said of themselves."""

    def __init__(self, terms: Terms, clock: Clock, chance: Callable[[], float] = random.random) -> None:
        self._terms = terms
        self._clock = clock
        self._chance = chance
        self._metadata: dict[str, _Metadata] = {}
        self._binary: bool | None = None

    def on(self, terms: Terms) -> Operations:
        """The same on other terms; what models said of themselves is shared."""
        other = Operations(terms, self._clock, self._chance)
        other._metadata, other._binary = self._metadata, self._binary
        return other

    def ready(self) -> Steps[bool]:
        """Whether the node says now that it can serve; it is asked once."""
        request = Request("GET", "/v2/health/ready", headers=self._terms.headers, idempotent=True)
        try:
            reply: Reply = yield Send(request, self._deadline_ns(None))
        except TransportFailure:
            return False
        return reply.status == 200

    def models(self) -> Steps[tuple[ModelInfo, ...]]:
        """Every model of the node."""
        reply = yield from self._get("/models", None)
        found: _Models = _decoded(reply, _Models)
        return found.models

    def metrics(self) -> Steps[str]:
        """Prometheus text."""
        reply = yield from self._get("/metrics", None)
        return reply.body.decode()

    def infer(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        outputs: Sequence[str] | None,
        timeout_s: float | None,
        priority: int | None,
    ) -> Steps[dict[str, NDArray[Any]]]:
        """Arrays in, arrays out."""
        deadline_ns = self._deadline_ns(timeout_s)
        path = _model_path(model)
        metadata = self._metadata.get(model)
        if metadata is None:
            reply = yield from self._get(path, deadline_ns)
            metadata = self._metadata[model] = _decoded(reply, _Metadata)
        if self._binary is None:
            reply = yield from self._get("/v2", deadline_ns)
            self._binary = _BINARY_EXTENSION in _decoded(reply, _Server).extensions
        specs = {spec.name: spec for spec in metadata.inputs}
        headers, parts = encode_infer(model, specs, inputs, outputs, binary=self._binary)
        request = Request("POST", f"{path}/infer", parts, self._headers(headers, priority))
        try:
            reply = yield from self._attempts(request, deadline_ns)
        except (InvalidRequest, NotFound):
            self._metadata.pop(model, None)  # it may be another version by now, with another signature
            raise
        return decode_infer(reply)

    def call(
        self, route: str, arguments: Mapping[str, Any], timeout_s: float | None = None, priority: int | None = None
    ) -> Steps[Any]:
        """JSON in, JSON out."""
        request = self._native(route, encode_arguments(arguments), JSON_TYPE, priority)
        reply = yield from self._attempts(request, self._deadline_ns(timeout_s))
        return _decoded(reply, Any)

    def call_raw(self, route: str, body: bytes, timeout_s: float | None = None) -> Steps[Any]:
        """Bytes in, JSON out."""
        reply = yield from self._attempts(self._native(route, body, BINARY_TYPE, None), self._deadline_ns(timeout_s))
        return _decoded(reply, Any)

    def stream(self, route: str, arguments: Mapping[str, Any], timeout_s: float | None = None) -> Steps[Reply]:
        """Begin a stream; its events come with the body."""
        request = self._native(route, encode_arguments(arguments), JSON_TYPE, None)
        return (yield from self._attempts(request, self._deadline_ns(timeout_s), streamed=True))

    def _deadline_ns(self, timeout_s: float | None) -> int:
        return self._clock.now_ns() + int((self._terms.timeout_s if timeout_s is None else timeout_s) * _NS)

    def _get(self, path: str, deadline_ns: int | None) -> Steps[Reply]:
        request = Request("GET", path, headers=self._terms.headers, idempotent=True)
        return self._attempts(request, self._deadline_ns(None) if deadline_ns is None else deadline_ns)

    def _attempts(self, request: Request, deadline_ns: int, streamed: bool = False) -> Steps[Reply]:
        return attempts(request, deadline_ns, self._terms.retries, self._clock, streamed=streamed, chance=self._chance)

    def _headers(self, headers: dict[str, str], priority: int | None) -> dict[str, str]:
        urgent = {} if priority is None else {PRIORITY_HEADER: str(priority)}
        return {**self._terms.headers, **headers, **urgent}

    def _native(self, route: str, body: bytes, content_type: str, priority: int | None) -> Request:
        model, separator, endpoint = route.partition("/")
        if not separator or not endpoint:
            raise InvalidRequest(f"expected a route such as 'embedder/embed', got {route!r}")
        path = f"/models/{quote(model, safe='')}/{quote(endpoint, safe='')}"
        return Request("POST", path, (body,), self._headers({"content-type": content_type}, priority))


def _model_path(model: str) -> str:
    name, _, label = model.partition(":")
    path = f"/v2/models/{quote(name, safe='')}"
    return f"{path}/versions/{quote(label, safe='')}" if label else path


def _decoded(reply: Reply, kind: Any) -> Any:
    try:
        return msgspec.json.decode(reply.body, type=kind)
    except msgspec.MsgspecError as error:
        raise ModelError(f"the server's answer is not what was expected: {error}") from error
