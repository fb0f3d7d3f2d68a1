"""From an HTTP exchange to a request in a model's queue: which route means what."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from setpoint import __version__
from setpoint.core import Endpoint, InvalidRequest, Limits, RequestTooLarge, UnsupportedMedia
from setpoint.node.http import Exchange
from setpoint.node.requests import HttpCallRequest, HttpStreamRequest, HttpTensorRequest
from setpoint.node.router import Router
from setpoint.node.service import ModelService
from setpoint.wire import (
    NativeTensorCodec,
    V2Codec,
    check_object,
    count_rows,
    docs_page,
    model_metadata,
    openapi_document,
    server_metadata,
)

HTML = b"text/html; charset=utf-8"


class Gateway:
    """All routes of a node."""

    def __init__(
        self,
        services: tuple[ModelService, ...],
        limits: Limits,
        refuse_while_draining: Callable[[], None],
        ready: Callable[[], bool],
    ) -> None:
        self._services = services
        self._json_limit_bytes = limits.json_limit_bytes
        self._refuse_while_draining = refuse_while_draining
        self._ready = ready
        self.router = Router()
        self._add_server_routes()
        for service in services:
            self._add_v2_routes(service)
            for endpoint in service.manifest.endpoints:
                self._add_native_route(service, endpoint)

    # --- the server's own ----------------------------------------------------------------------------------------

    def _add_server_routes(self) -> None:
        add = self.router.add
        models = [(service.name, service.manifest) for service in self._services]
        openapi = msgspec.json.encode(openapi_document(models, __version__))
        metadata = server_metadata(__version__)
        page = docs_page()
        add("GET", "/v2", lambda exchange: exchange.respond(200, metadata))
        add("GET", "/v2/health/live", lambda exchange: exchange.respond(200, b'{"live":true}'))
        add("GET", "/v2/health/ready", self._health_ready)
        add("GET", "/openapi.json", lambda exchange: exchange.respond(200, openapi))
        add("GET", "/docs", lambda exchange: exchange.respond(200, page, HTML))
        add("GET", "/", lambda exchange: exchange.respond(307, b"", HTML, ((b"location", b"/docs"),)))

    def _health_ready(self, exchange: Exchange) -> None:
        ready = self._ready()
        exchange.respond(200 if ready else 503, b'{"ready":true}' if ready else b'{"ready":false}')

    # --- Open Inference Protocol V2 ------------------------------------------------------------------------------

    def _add_v2_routes(self, service: ModelService) -> None:
        bundle = service.config.bundle
        version = str(bundle.version)
        metadata = model_metadata(bundle.name, [version], bundle.manifest)
        bases = [f"/v2/models/{bundle.name}"]
        bases += [f"{bases[0]}/versions/{label}" for label in (version, *bundle.aliases)]
        endpoint = bundle.manifest.tensor_endpoint
        for base in bases:
            self.router.add("GET", base, lambda exchange: exchange.respond(200, metadata))
            self.router.add("GET", f"{base}/ready", partial(self._model_ready, service))
            if endpoint is not None and endpoint.signature is not None:
                codec = V2Codec(endpoint.signature, bundle.name, version)
                self.router.add("POST", f"{base}/infer", partial(self._infer, service, endpoint, codec))
            else:
                self.router.add("POST", f"{base}/infer", partial(self._not_tensors, service))

    def _model_ready(self, service: ModelService, exchange: Exchange) -> None:
        body = msgspec.json.encode({"name": service.name, "ready": service.ready})
        exchange.respond(200 if service.ready else 503, body)

    def _infer(
        self, service: ModelService, endpoint: Endpoint, codec: V2Codec | NativeTensorCodec, exchange: Exchange
    ) -> None:
        self._refuse_while_draining()
        self._check_json(exchange)
        decoded = codec.decode(exchange.body)
        exchange.body = b""  # it was read; arrays wait in the queue, and not their text beside them
        service.submit(HttpTensorRequest(exchange, endpoint.name, decoded, codec, service))

    def _not_tensors(self, service: ModelService, exchange: Exchange) -> None:
        routes = ", ".join(f"/models/{service.name}/{endpoint.name}" for endpoint in service.manifest.endpoints)
        raise InvalidRequest(f"model {service.name!r} takes and gives more than tensors; POST JSON to {routes}")

    # --- native JSON ---------------------------------------------------------------------------------------------

    def _add_native_route(self, service: ModelService, endpoint: Endpoint) -> None:
        path = f"/models/{service.name}/{endpoint.name}"
        if service.manifest.variants[0].engine != "python" and endpoint.signature is not None:
            handler = partial(self._infer, service, endpoint, NativeTensorCodec(endpoint.signature))
        else:
            handler = partial(self._call, service, endpoint)
        self.router.add("POST", path, handler)

    def _call(self, service: ModelService, endpoint: Endpoint, exchange: Exchange) -> None:
        self._refuse_while_draining()
        raw = endpoint.body == "bytes" and not _is_json(exchange)
        rows = 1
        if raw:
            _check_encoding(exchange)
        else:
            self._check_json(exchange)
            if endpoint.batch_rows:
                rows = count_rows(endpoint, exchange.body)
            else:
                check_object(exchange.body)
        if endpoint.streams:
            service.submit(HttpStreamRequest(exchange, endpoint.name, raw, service))
        else:
            service.submit(HttpCallRequest(exchange, endpoint.name, rows, raw, service))

    def _check_json(self, exchange: Exchange) -> None:
        if len(exchange.body) > self._json_limit_bytes:
            raise RequestTooLarge(
                f"the JSON body has {len(exchange.body)} bytes, more than the limit of {self._json_limit_bytes} "
                "(--max-json); send fewer rows a request"
            )
        _check_json(exchange)


def _is_json(exchange: Exchange) -> bool:
    content_type = exchange.headers.get(b"content-type", b"")
    return content_type.split(b";", 1)[0].strip().lower() == b"application/json"


_JSON = b"application/json"
_NOT_JSON = (b"application/octet-stream", b"multipart/form-data")


def _check_json(exchange: Exchange) -> None:
    """Refuse bodies that cannot be JSON. Others are tried whatever they are called: ``curl -d`` calls JSON a form."""
    headers = exchange.headers
    content_type = headers.get(b"content-type", _JSON)
    if content_type != _JSON and content_type.split(b";", 1)[0].strip().lower() in _NOT_JSON:
        raise UnsupportedMedia(f"expected application/json, got {content_type.decode('latin-1')[:80]}")
    _check_encoding(exchange)
    if b"inference-header-content-length" in headers:
        raise UnsupportedMedia("binary tensor data is not supported; send tensors as JSON")


def _check_encoding(exchange: Exchange) -> None:
    """Refuse compressed bodies: nobody would unpack them, and an endpoint that takes bytes would not notice."""
    encoding = exchange.headers.get(b"content-encoding")
    if encoding is not None and encoding.strip().lower() != b"identity":
        raise UnsupportedMedia(
            f"content-encoding {encoding.decode('latin-1')[:40]!r} is not supported; send the body plain"
        )
