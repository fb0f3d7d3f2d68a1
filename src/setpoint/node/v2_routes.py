"""Routes of one model by the Open Inference Protocol V2."""

from __future__ import annotations

from functools import partial

import msgspec

from setpoint.core import Endpoint, InvalidRequest
from setpoint.node.door import Door
from setpoint.node.generate_routes import generate
from setpoint.node.http import Exchange
from setpoint.node.requests import HttpTensorRequest
from setpoint.node.router import Routes
from setpoint.node.service import ModelService
from setpoint.node.terms import read_terms, take_v2_terms
from setpoint.node.v2_about import config_of, statistics_of
from setpoint.node.v2_requests import V2TensorRequest
from setpoint.wire import JSON_LENGTH, InferRequest, NativeTensorCodec, V2Codec, json_length, model_metadata

_LARGE_JSON_BYTES = 64 * 1024
"""From here on requests are read a slice at a time."""


def v2_routes(service: ModelService, door: Door) -> Routes:
    """Everything under ``/v2/models/NAME``, by its version and aliases too."""
    bundle = service.config.bundle
    version = str(bundle.version)
    metadata = model_metadata(bundle.name, [version], bundle.manifest)
    bases = [f"/v2/models/{bundle.name}"]
    bases += [f"{bases[0]}/versions/{label}" for label in (version, *bundle.aliases)]
    endpoint = bundle.manifest.tensor_endpoint
    if endpoint is not None and endpoint.signature is not None:
        labels = bundle.manifest.labels_by_output
        codec = V2Codec(endpoint.signature, bundle.name, version, door.memory, labels, door.limits)
        infer = partial(_infer, service, door, endpoint, codec)
    else:
        infer = partial(_not_tensors, service)
    whole, in_pieces = (generate(service, door, streams=streams) for streams in (False, True))
    routes: Routes = {}
    for base in bases:
        routes["GET", base] = lambda exchange: exchange.respond(200, metadata)
        routes["GET", f"{base}/ready"] = partial(_model_ready, service)
        routes["GET", f"{base}/config"] = lambda exchange: exchange.respond(
            200, config_of(service, door.limits.queue_limit_rows)
        )
        routes["GET", f"{base}/stats"] = partial(_statistics, service)
        routes["POST", f"{base}/infer"] = infer
        routes["POST", f"{base}/generate"] = whole
        routes["POST", f"{base}/generate_stream"] = in_pieces
    return routes


def _infer(service: ModelService, door: Door, endpoint: Endpoint, codec: V2Codec, exchange: Exchange) -> None:
    """Decode a body of JSON, binary tensors or both, and hand it on."""
    door.refuse_while_draining()
    body = exchange.body
    # The content type says nothing: tritonclient's asyncio client calls plain JSON application/octet-stream.
    said = exchange.headers.get(JSON_LENGTH)
    json_bytes = None if said is None else json_length(said, len(body))
    if (len(body) if json_bytes is None else json_bytes) > _LARGE_JSON_BYTES:
        then = partial(_submit, service, door, endpoint, codec, exchange)
        door.slices.run(exchange, codec.read(body, json_bytes), then)
    else:
        _submit(service, door, endpoint, codec, exchange, codec.decode(body, json_bytes))


def _submit(
    service: ModelService,
    door: Door,
    endpoint: Endpoint,
    codec: V2Codec,
    exchange: Exchange,
    decoded: InferRequest,
) -> None:
    exchange.body = b""  # it was read; arrays wait in the queue, and not their text beside them
    request = V2TensorRequest(exchange, endpoint.name, decoded, codec, service)
    request.door = door
    read_terms(exchange.headers, request)
    if decoded.timeout_ns or decoded.priority:
        take_v2_terms(decoded, request)
    service.submit(request)


def infer_tensors(
    service: ModelService, door: Door, endpoint: Endpoint, codec: NativeTensorCodec, exchange: Exchange
) -> None:
    """Decode a native JSON body into tensors and hand it on."""
    door.refuse_while_draining()
    door.check_json(exchange)
    decoded = codec.decode(exchange.body)
    exchange.body = b""
    request = HttpTensorRequest(exchange, endpoint.name, decoded, codec, service)
    read_terms(exchange.headers, request)
    service.submit(request)


def _model_ready(service: ModelService, exchange: Exchange) -> None:
    body = msgspec.json.encode({"name": service.name, "ready": service.ready})
    exchange.respond(200 if service.ready else 503, body)


def _statistics(service: ModelService, exchange: Exchange) -> None:
    exchange.respond(200, statistics_of([service], own=True))


def _not_tensors(service: ModelService, exchange: Exchange) -> None:
    routes = ", ".join(f"/models/{service.name}/{endpoint.name}" for endpoint in service.manifest.endpoints)
    raise InvalidRequest(f"model {service.name!r} takes and gives more than tensors; POST JSON to {routes}")
