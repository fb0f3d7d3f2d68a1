"""Calls that ask about the node and its models: health, metadata, readiness, reflection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from setpoint import __version__
from setpoint.core import Limits, NotFound
from setpoint.node.grpc.catalogue import Catalogue
from setpoint.node.v2_about import config_of, statistics_of
from setpoint.wire import grpc as wire
from setpoint.wire import model_metadata, server_metadata

_WATCH_S = 0.25
"""How often a watched status is looked at. It changes a few times in a node's life."""
_LAST_WORD_S = 0.5
INFERENCE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
REFLECTION = tuple(f"grpc.reflection.{version}.ServerReflection" for version in ("v1", "v1alpha"))
Call = Callable[[bytes], bytes]


class About:
    """Answers from what is known, without asking a model."""

    def __init__(self, catalogue: Catalogue, ready: Callable[[], bool], limits: Limits, *, repository: bool) -> None:
        self._repository = repository
        self._catalogue = catalogue
        self._most_rows = limits.queue_limit_rows
        self._ready = ready
        self._ended = asyncio.Event()

    def calls(self) -> dict[str, Call]:
        """By method name of ``GRPCInferenceService``."""
        return {
            "ServerLive": lambda _: _encoded("inference.ServerLiveResponse", live=True),
            "ServerReady": lambda _: _encoded("inference.ServerReadyResponse", ready=self._ready()),
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
        }

    def drain(self) -> None:
        """Whoever watches is told that it is over."""
        self._ended.set()

    def _server_metadata(self, _: bytes) -> bytes:
        return _from_json(
            "inference.ServerMetadataResponse",
            server_metadata(__version__, repository=self._repository, shared_memory=self._catalogue.memory.enabled),
        )

    def _model_ready(self, body: bytes) -> bytes:
        asked = wire.parse("inference.ModelReadyRequest", body)
        try:
            ready = self._catalogue.find(asked.name, asked.version).ready
        except NotFound:
            ready = False  # as Triton answers: what is not there is not ready, which is no error
        return _encoded("inference.ModelReadyResponse", ready=ready)

    def _model_metadata(self, body: bytes) -> bytes:
        asked = wire.parse("inference.ModelMetadataRequest", body)
        bundle = self._catalogue.find(asked.name, asked.version).config.bundle
        document = model_metadata(bundle.name, [str(bundle.version)], bundle.manifest)
        return _from_json("inference.ModelMetadataResponse", document)

    def _model_config(self, body: bytes) -> bytes:
        asked = wire.parse("inference.ModelConfigRequest", body)
        document = config_of(self._catalogue.find(asked.name, asked.version), self._most_rows)
        return _from_json("inference.ModelConfigResponse", document, "config")

    def _model_statistics(self, body: bytes) -> bytes:
        asked = wire.parse("inference.ModelStatisticsRequest", body)
        catalogue = self._catalogue
        services = [catalogue.find(asked.name, asked.version)] if asked.name else catalogue.served.services
        return _from_json("inference.ModelStatisticsResponse", statistics_of(services, own=False))

    # --- grpc.health.v1 --------------------------------------------------------------------------------------------

    def check(self, body: bytes) -> bytes:
        """``Health.Check``: of the node (no name, or the inference service's), or of a model by its name.

        Raises:
            NotFound: nothing is called so.
        """
        service = self._health_name(body)
        status = self._status(service)
        if status == "SERVICE_UNKNOWN":
            raise NotFound(f"neither a service nor a model is called {service[:80]!r}")
        return _encoded("grpc.health.v1.HealthCheckResponse", status=status)

    async def watch(self, body: bytes, context: Any) -> None:
        """``Health.Watch``: the status now, and whenever it has changed."""
        service = self._health_name(body)
        told = ""
        while True:
            status = self._status(service)
            if status != told:
                told = status
                await context.write(_encoded("grpc.health.v1.HealthCheckResponse", status=status))
            if self._ended.is_set():
                # gRPC's Python client drops a message that arrives together with the end of its stream.
                await asyncio.sleep(_LAST_WORD_S)
                return
            try:
                await asyncio.wait_for(self._ended.wait(), _WATCH_S)
            except TimeoutError:
                continue

    def _health_name(self, body: bytes) -> str:
        return str(wire.parse("grpc.health.v1.HealthCheckRequest", body).service)

    def _status(self, service: str) -> str:
        if service in ("", INFERENCE):
            ready = self._ready()
        else:
            try:
                ready = self._catalogue.find(service, "").ready
            except NotFound:
                return "SERVICE_UNKNOWN"
        return "SERVING" if ready and not self._ended.is_set() else "NOT_SERVING"


async def reflection(package: str, messages: AsyncIterator[bytes], context: Any) -> None:
    """``ServerReflectionInfo`` of one of the two versions: an answer for each question."""
    async for body in messages:
        await context.write(wire.reflect(package, body))


reflections = {name: partial(reflection, name.rpartition(".")[0]) for name in REFLECTION}
"""By the full name of the service."""


def _encoded(name: str, **fields: Any) -> bytes:
    message: bytes = wire.message_class(name)(**fields).SerializeToString()
    return message


def _from_json(name: str, json: bytes, parent: str = "") -> bytes:
    message: bytes = wire.from_json(name, json, parent).SerializeToString()
    return message
