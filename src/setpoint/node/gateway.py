"""All routes of a node: its own, and those of the models that it serves now."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from setpoint import __version__
from setpoint.node.answer_headers import model_line
from setpoint.node.door import Door
from setpoint.node.http import Exchange
from setpoint.node.memory_routes import memory_routes
from setpoint.node.native_routes import native_routes
from setpoint.node.openai_routes import OpenAIRoutes
from setpoint.node.router import Router, Routes
from setpoint.node.service import ModelService
from setpoint.node.v2_about import statistics_of
from setpoint.node.v2_routes import v2_routes
from setpoint.wire import catalogue, catalogue_entry, docs_page, openapi_document, server_metadata

HTML = b"text/html; charset=utf-8"


class Gateway:
    """From a path to whoever answers it. Models may come and go while it is in use.

    Attributes:
        router: of all routes.
    """

    def __init__(self, door: Door, ready: Callable[[], bool], *, repository: bool = False) -> None:
        """Publish nothing yet; ``repository`` says whether somebody may load and unload models."""
        self.router = Router()
        self._door = door
        self._ready = ready
        self._published: dict[str, tuple[ModelService, Routes]] = {}
        self._openapi = b""
        self._openai = OpenAIRoutes(door)
        self._add_server_routes(repository)

    def publish(self, service: ModelService) -> None:
        """Route requests for its name to this service; where another one was published under it, instead of that."""
        self.withdraw(service.name)
        routes = {**v2_routes(service, self._door), **native_routes(service, self._door)}
        routes |= self._openai.publish(service)
        bundle = service.config.bundle
        # All answers of a model, refusals too, name it by its content, as ``setpoint serve`` and ``inspect`` take it.
        lines = model_line(bundle.name, bundle.digest)
        for (method, path), handler in routes.items():
            self.router.add(method, path, handler, lines)
        self._published[service.name] = (service, routes)
        self._openapi = b""

    def withdraw(self, name: str) -> None:
        """Route no more requests for a model; nothing where it is not published."""
        published = self._published.pop(name, None)
        if published is None:
            return
        self._openai.withdraw(name)
        for method, path in published[1]:
            self.router.remove(method, path)
        self._openapi = b""

    def _add_server_routes(self, repository: bool) -> None:
        add = self.router.add
        memory = self._door.memory
        metadata = server_metadata(__version__, repository=repository, shared_memory=memory.enabled)
        page = docs_page()
        for (method, path), handler in (self._openai.server_routes() | memory_routes(memory)).items():
            add(method, path, handler)
        add("GET", "/v2", lambda exchange: exchange.respond(200, metadata))
        add("GET", "/v2/health/live", lambda exchange: exchange.respond(200, b'{"live":true}'))
        add("GET", "/v2/health/ready", self._health_ready)
        add("GET", "/v2/models/stats", self._statistics)
        add("GET", "/models", self._models)
        add("GET", "/openapi.json", self._openapi_document)
        add("GET", "/docs", lambda exchange: exchange.respond(200, page, HTML))
        add("GET", "/", lambda exchange: exchange.respond(307, b"", HTML, ((b"location", b"/docs"),)))

    def _health_ready(self, exchange: Exchange) -> None:
        ready = self._ready()
        exchange.respond(200 if ready else 503, b'{"ready":true}' if ready else b'{"ready":false}')

    def _models(self, exchange: Exchange) -> None:
        bundles = [(service, service.config.bundle) for service, _ in self._published.values()]
        entries = [
            catalogue_entry(
                bundle.name, bundle.version, bundle.digest, bundle.manifest, service.devices, ready=service.ready
            )
            for service, bundle in bundles
        ]
        exchange.respond(200, catalogue(entries))

    def _statistics(self, exchange: Exchange) -> None:
        exchange.respond(200, statistics_of([service for service, _ in self._published.values()], own=True))

    def _openapi_document(self, exchange: Exchange) -> None:
        if not self._openapi:
            models = [(service.name, service.manifest) for service, _ in self._published.values()]
            self._openapi = msgspec.json.encode(openapi_document(models, __version__))
        exchange.respond(200, self._openapi)
