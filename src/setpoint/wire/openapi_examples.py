"""Requests to try a route with: values that fit a JSON Schema, tensors that fit a signature. Pure.

The OpenAPI document shows them, and ``setpoint serve`` prints them as lines for the shell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from setpoint.core import FREE, Signature, TensorSpec

REFERENCE = "#/components/schemas/"
MOST_ELEMENTS = 4096
"""An example with more elements is left out: nobody reads it, and a page of it can be megabytes."""
_DEPTH_LIMIT = 16
_FREE_LENGTH = 8  # one length for every free axis, since a signature does not say which of them must be equal
_FREE_IMAGE_LENGTH = 32  # where a tensor has four axes: convolutions that halve a few times must not run out of pixels
_IMAGE_AXES = 4
_FORMATS = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "duration": "PT1S",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
    "decimal": "1.5",
}
_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="  # one pixel
_WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAgD4AAAB9AAACABAAZGF0YQIAAAAAAA=="  # one sample


class TooLarge(Exception):
    """The example would have more elements than are wanted."""


class ExampleMaker:
    """Makes example values.

    Args:
        schemas: definitions that ``$ref`` points into, by their name after ``#/components/schemas/``.
        most_elements: of all lists together.
    """

    def __init__(self, schemas: Mapping[str, Any], most_elements: int) -> None:
        self._schemas = schemas
        self._most_elements = most_elements
        self._elements = 0

    def value(self, schema: Mapping[str, Any], depth: int = 0) -> Any:
        """A value that fits ``schema``, as short as it may be but with one element in lists of free length.

        Raises:
            TooLarge: beyond ``most_elements``, or nested without end.
        """
        self._elements += 1
        if self._elements > self._most_elements or depth > _DEPTH_LIMIT:
            raise TooLarge
        if examples := schema.get("examples"):
            return examples[0]
        for key in ("default", "const"):
            if key in schema:
                return schema[key]
        if "enum" in schema:
            return schema["enum"][0]
        if "$ref" in schema:
            return self.value(self._schemas[schema["$ref"].removeprefix(REFERENCE)], depth + 1)
        for key in ("anyOf", "oneOf", "allOf"):
            if key in schema:
                choices = schema[key]
                return self.value(next((part for part in choices if part.get("type") != "null"), choices[0]), depth + 1)
        return self._of_type(schema, depth)

    def _of_type(self, schema: Mapping[str, Any], depth: int) -> Any:
        kinds = schema.get("type", "string")
        match kinds if isinstance(kinds, str) else next((kind for kind in kinds if kind != "null"), "null"):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "integer":
                return int(_number(schema, 1))
            case "number":
                return _number(schema, 0.5)
            case "boolean":
                return True
            case "null":
                return None
        return _text(schema)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        required = schema.get("required", ())
        # An optional part that refers to its own kind would never end; what is not required can be left out.
        properties = {
            name: part for name, part in schema.get("properties", {}).items() if name in required or depth == 0
        }
        made = {name: self.value(part, depth + 1) for name, part in properties.items()}
        if not made and isinstance(schema.get("additionalProperties"), dict):
            made["key"] = self.value(schema["additionalProperties"], depth + 1)
        return made

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        fixed = schema.get("prefixItems")
        if fixed:
            return [self.value(part, depth + 1) for part in fixed]
        length = schema.get("minItems") or (0 if self._is_full(schema, depth) else 1)
        items = schema.get("items")
        return [self.value(items if isinstance(items, dict) else {"type": "number"}, depth + 1) for _ in range(length)]

    def _is_full(self, schema: Mapping[str, Any], depth: int) -> bool:
        """Whether a list of free length had better be empty: a type that holds a list of itself ends there."""
        return schema.get("maxItems") == 0 or depth > _DEPTH_LIMIT // 2


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any], most_elements: int = MOST_ELEMENTS) -> Any:
    """A value that fits ``schema``; ``msgspec.UNSET`` where it would be too large."""
    try:
        return ExampleMaker(schemas, most_elements).value(schema)
    except TooLarge:
        return msgspec.UNSET


def infer_example(signature: Signature, most_elements: int = MOST_ELEMENTS) -> Any:
    """A V2 request of one row; ``msgspec.UNSET`` where tensors have no V2 JSON form or it would be too large."""
    if not all(spec.type.json_number for spec in (*signature.inputs, *signature.outputs)):
        return msgspec.UNSET
    inputs = []
    for spec, shape in _shapes(signature):
        elements = math.prod(shape)
        if elements > most_elements:
            return msgspec.UNSET
        data = [_element(spec)] * elements
        inputs.append({"name": spec.name, "shape": shape, "datatype": spec.datatype, "data": data})
    return {"inputs": inputs}


def nested_example(signature: Signature) -> dict[str, Any]:
    """One row as the native route takes it: input name → nested lists. Every datatype has this form."""
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
    if spec.datatype == "BYTES":
        return "text"
    if spec.datatype == "BOOL":
        return True
    return 0.5 if spec.type.is_float else 1


def _number(schema: Mapping[str, Any], wanted: float) -> float:
    lowest = schema.get("minimum", schema.get("exclusiveMinimum", -math.inf) + ("exclusiveMinimum" in schema))
    highest = schema.get("maximum", schema.get("exclusiveMaximum", math.inf) - ("exclusiveMaximum" in schema))
    value: float = min(max(wanted, lowest), highest)
    step = schema.get("multipleOf")
    return value if not step else math.ceil(value / step) * step


def _text(schema: Mapping[str, Any]) -> str:
    if known := _FORMATS.get(schema.get("format", "")):
        return known
    if schema.get("contentEncoding") == "base64":
        meaning = schema.get("description", "")
        return _PNG if "PNG" in meaning else _WAV if "WAV" in meaning else "dGV4dA=="
    return "text".ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength")]
