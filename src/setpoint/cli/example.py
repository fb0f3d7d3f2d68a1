"""An example request for each endpoint of a model, made from its manifest. Pure.

The body fits the endpoint's types, so it is accepted; whether the answer makes sense is the model's affair.
"""

from __future__ import annotations

import math
import shlex
from typing import Any

import msgspec

from setpoint.core import FREE, Endpoint, ModelManifest, Signature, TensorSpec

INLINE_CHARACTERS = 300
"""A longer body is not put on the command line: the line tells how to get it instead."""

_FREE_LENGTH = 8  # one length for every free axis, since a signature does not say which of them must be equal
_FREE_IMAGE_LENGTH = 32  # where a tensor has four axes: convolutions that halve a few times must not run out of pixels
_IMAGE_AXES = 4
_SMALLEST_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
_SHORTEST_WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAgD4AAAB9AAACABAAZGF0YQIAAAAAAA=="


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
        Call(endpoint.name, f"/models/{name}/{endpoint.name}", json_body(endpoint, manifest.schemas), endpoint.streams)
        if is_class or endpoint.signature is None
        else _tensor_call(name, endpoint, endpoint.signature, standard=endpoint is manifest.tensor_endpoint)
        for endpoint in manifest.endpoints
    ]


def _tensor_call(name: str, endpoint: Endpoint, signature: Signature, *, standard: bool) -> Call:
    tensors = (*signature.inputs, *signature.outputs)
    if standard and all(spec.type.json_number for spec in tensors):  # FP16 has no form in V2's JSON
        return Call(endpoint.name, f"/v2/models/{name}/infer", v2_body(signature))
    return Call(endpoint.name, f"/models/{name}/{endpoint.name}", nested_body(signature))


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


def v2_body(signature: Signature) -> dict[str, Any]:
    """A V2 inference request with one row: flat data beside its shape."""
    inputs = []
    for spec, shape in _shapes(signature):
        data = [_element(spec)] * math.prod(shape)
        inputs.append({"name": spec.name, "shape": shape, "datatype": spec.datatype, "data": data})
    return {"inputs": inputs}


def nested_body(signature: Signature) -> dict[str, Any]:
    """The same row as the native route takes it: input name → nested lists."""
    body = {}
    for spec, shape in _shapes(signature):
        value = _element(spec)
        for length in reversed(shape):
            value = [value] * length
        body[spec.name] = value
    return body


def _shapes(signature: Signature) -> list[tuple[TensorSpec, list[int]]]:
    images = any(len(spec.shape) >= _IMAGE_AXES for spec in signature.inputs)
    free = _FREE_IMAGE_LENGTH if images else _FREE_LENGTH
    return [
        (
            spec,
            [
                length if length != FREE else 1 if axis == 0 and signature.batched else free
                for axis, length in enumerate(spec.shape)
            ],
        )
        for spec in signature.inputs
    ]


def _element(spec: TensorSpec) -> Any:
    if spec.type.is_float:
        return 0.5
    if spec.type.is_integer:
        return 1
    return True if spec.datatype == "BOOL" else "text"


def json_body(endpoint: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    """The JSON object of an endpoint's required arguments; of tensors where the endpoint takes tensors."""
    return {
        parameter.name: example_of(parameter.schema, schemas) for parameter in endpoint.parameters if parameter.required
    }


def example_of(schema: dict[str, Any], schemas: dict[str, Any], depth: int = 0) -> Any:
    """A value that fits a JSON Schema of the kind that type annotations give.

    Args:
        schema: of the value.
        schemas: what ``$ref`` names, by the part after its last slash.
        depth: how many references were followed; a type that holds itself ends in empty lists.
    """
    if reference := schema.get("$ref"):
        return example_of(schemas[reference.rpartition("/")[2]], schemas, depth + 1)
    for given in ("const", "default"):
        if given in schema:
            return schema[given]
    for several in ("examples", "enum"):
        if schema.get(several):
            return schema[several][0]
    for alternatives in ("anyOf", "oneOf"):
        if choices := schema.get(alternatives):
            return example_of(next((c for c in choices if c.get("type") != "null"), choices[0]), schemas, depth)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    return _BY_KIND.get(kind or "", _anything)(schema, schemas, depth)


_DEEPEST = 8


def _array(schema: dict[str, Any], schemas: dict[str, Any], depth: int) -> Any:
    if "prefixItems" in schema:
        return [example_of(item, schemas, depth) for item in schema["prefixItems"]]
    items = schema.get("items", {})
    count = schema.get("minItems", 0 if depth > _DEEPEST else 1)
    return [example_of(items if isinstance(items, dict) else {}, schemas, depth)] * count if count else []


def _object(schema: dict[str, Any], schemas: dict[str, Any], depth: int) -> Any:
    required = schema.get("required", ())
    properties = schema.get("properties", {})
    return {name: example_of(part, schemas, depth) for name, part in properties.items() if name in required}


def _string(schema: dict[str, Any], schemas: dict[str, Any], depth: int) -> Any:
    if schema.get("contentEncoding") == "base64":
        description = schema.get("description", "")
        return _SMALLEST_PNG if "PNG" in description else _SHORTEST_WAV if "WAV" in description else "Ynl0ZXM="
    by_format = {
        "date-time": "2026-01-31T12:00:00Z",
        "date": "2026-01-31",
        "time": "12:00:00",
        "duration": "PT1S",
        "uuid": "00000000-0000-4000-8000-000000000000",
        "decimal": "1.5",
    }
    text = by_format.get(schema.get("format", ""), "some text")
    text += "." * (schema.get("minLength", 0) - len(text))
    return text[: schema.get("maxLength", len(text))]


def _integer(schema: dict[str, Any], schemas: dict[str, Any], depth: int) -> Any:
    return _within(schema, 1, step=schema.get("multipleOf", 1))


def _number(schema: dict[str, Any], schemas: dict[str, Any], depth: int) -> Any:
    return _within(schema, 0.5, step=schema.get("multipleOf", 0.5))


def _within(schema: dict[str, Any], value: float, step: float) -> float:
    """``value``, or what the bounds allow instead."""
    if "multipleOf" in schema:
        value = step
    if "exclusiveMinimum" in schema:
        value = max(value, schema["exclusiveMinimum"] + step)
    if "exclusiveMaximum" in schema:
        value = min(value, schema["exclusiveMaximum"] - step)
    value = max(value, schema.get("minimum", value))
    value = min(value, schema.get("maximum", value))
    return value


def _boolean(schema: dict[str, Any], schemas: dict[str, Any], depth: int) -> Any:
    return True


def _anything(schema: dict[str, Any], schemas: dict[str, Any], depth: int) -> Any:
    return None


_BY_KIND = {
    "array": _array,
    "object": _object,
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
}
