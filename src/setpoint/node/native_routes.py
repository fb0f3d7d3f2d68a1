"""Routes of one model in native JSON: its endpoints by their names."""

from __future__ import annotations

from functools import partial

from setpoint.core import Endpoint
from setpoint.node.door import JSON, Door, media_type
from setpoint.node.http import Exchange
from setpoint.node.requests import HttpCallRequest, HttpStreamRequest
from setpoint.node.router import Routes
from setpoint.node.service import ModelService
from setpoint.node.terms import read_terms
from setpoint.node.v2_routes import infer_tensors
from setpoint.wire import FORM, NativeTensorCodec, check_object, count_rows, file_arguments, read_form


def native_routes(service: ModelService, door: Door) -> Routes:
    """``POST /models/NAME/ENDPOINT`` for each endpoint."""
    routes: Routes = {}
    python = service.manifest.variants[0].engine == "python"
    for endpoint in service.manifest.endpoints:
        if not python and endpoint.signature is not None:
            handler = partial(
                infer_tensors, service, door, endpoint, NativeTensorCodec(endpoint.signature, door.limits)
            )
        else:
            handler = partial(_call, service, door, endpoint, bool(file_arguments(endpoint)))
        routes["POST", f"/models/{service.name}/{endpoint.name}"] = handler
    return routes


def _call(service: ModelService, door: Door, endpoint: Endpoint, takes_forms: bool, exchange: Exchange) -> None:
    door.refuse_while_draining()
    kind = media_type(exchange)
    form = takes_forms and kind == FORM
    raw = endpoint.body == "bytes" and kind != JSON and not form
    rows = 1
    if form:
        exchange.body, rows = read_form(endpoint, exchange.headers[b"content-type"], exchange.body)
    elif not raw:
        door.check_json(exchange)
        if endpoint.batch_rows:
            rows = count_rows(endpoint, exchange.body)
        else:
            check_object(exchange.body)
    request: HttpStreamRequest | HttpCallRequest
    if endpoint.streams:
        request = HttpStreamRequest(exchange, endpoint.name, raw, service)
    else:
        request = HttpCallRequest(exchange, endpoint.name, rows, raw, service)
    read_terms(exchange.headers, request)
    service.submit(request)
