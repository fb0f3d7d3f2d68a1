"""An example request for each endpoint of a model, as a line for the shell. Pure.

The body fits the endpoint's types, so it is accepted; whether the answer makes sense is the model's affair.
"""

from __future__ import annotations

import shlex
from typing import Any

import msgspec

from setpoint.core import Endpoint, ModelManifest
from setpoint.wire import example_of, infer_example, nested_example

INLINE_CHARACTERS = 300
"""A longer body is not put on the command line: the line tells how to get it instead."""

_MOST_ELEMENTS = 1 << 24  # nobody reads a long body, but it can be sent


class Call(msgspec.Struct, frozen=True):
    """One example request: POST ``body`` to ``path``.

    Attributes:
        endpoint: its name.
        path: of the route.
        body: a JSON document.
        streams: the answer comes in parts.
    """

    endpoint: str
    path: str
    body: Any
    streams: bool = False


def calls(name: str, manifest: ModelManifest) -> list[Call]:
    """Example calls of a model, one per endpoint.

    A model that is a tensor file is called by the standard's route; a Python class by its own arguments.
    """
    is_class = manifest.variants[0].engine == "python"
    return [
        _call_with_arguments(name, endpoint, manifest.schemas)
        if is_class or endpoint.signature is None
        else _call_with_tensors(name, endpoint, standard=endpoint is manifest.tensor_endpoint)
        for endpoint in manifest.endpoints
    ]


def _call_with_arguments(name: str, endpoint: Endpoint, schemas: dict[str, Any]) -> Call:
    body = {
        parameter.name: example_of(parameter.schema, schemas, _MOST_ELEMENTS)
        for parameter in endpoint.parameters
        if parameter.required
    }
    return Call(endpoint.name, f"/models/{name}/{endpoint.name}", body, endpoint.streams)


def _call_with_tensors(name: str, endpoint: Endpoint, *, standard: bool) -> Call:
    assert endpoint.signature is not None
    body = infer_example(endpoint.signature, _MOST_ELEMENTS) if standard else msgspec.UNSET
    if body is not msgspec.UNSET:
        return Call(endpoint.name, f"/v2/models/{name}/infer", body)
    return Call(endpoint.name, f"/models/{name}/{endpoint.name}", nested_example(endpoint.signature))


def curl(call: Call, url: str, reference: str) -> str:
    """A line for the shell that makes the call.

    Args:
        call: what to ask.
        url: of the node, without a slash at its end.
        reference: of the bundle, for ``setpoint inspect`` to print a long body from.
    """
    options = "-sN" if call.streams else "-s"  # -N: show each event when it comes
    body = msgspec.json.encode(call.body).decode()
    if len(body) <= INLINE_CHARACTERS:
        return f"curl {options} {url}{call.path} -d {shlex.quote(body)}"
    return f"setpoint inspect {reference} --example {call.endpoint} | curl {options} {url}{call.path} -d @-"
