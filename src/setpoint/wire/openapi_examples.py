"""Values that fit a JSON Schema, to try a route with; and V2 requests that fit a signature. Pure."""

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
_FORMATS = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "duration": "PT1S",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
    "decimal": "1.5",
}


class TooLarge(Exception):
    """The example would have more than ``MOST_ELEMENTS`` elements."""


class ExampleMaker:
    """Makes example values.

    Args:
        schemas: definitions that ``$ref`` points into, by their name after ``#/components/schemas/``.
    """

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        self._schemas = schemas
        self._elements = 0

    def value(self, schema: Mapping[str, Any], depth: int = 0) -> Any:
        """A value that fits ``schema``, as short as it may be but with one element in lists of free length.

        Raises:
            TooLarge: beyond ``MOST_ELEMENTS``, or nested without end.
        """
        self._elements += 1
        if self._elements > MOST_ELEMENTS or depth > _DEPTH_LIMIT:
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
                return self.value(schema[key][0], depth + 1)
        return self._of_type(schema, depth)

    def _of_type(self, schema: Mapping[str, Any], depth: int) -> Any:
        kinds = schema.get("type", "string")
        match kinds if isinstance(kinds, str) else kinds[0]:
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
        length = max(1, schema.get("minItems", 1))
        if schema.get("maxItems") == 0:
            return []
        items = schema.get("items")
        return [self.value(items if isinstance(items, dict) else {"type": "number"}, depth + 1) for _ in range(length)]


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """A value that fits ``schema``; ``msgspec.UNSET`` where it would be too large."""
    try:
        return ExampleMaker(schemas).value(schema)
    except TooLarge:
        return msgspec.UNSET


def infer_example(signature: Signature) -> Any:
    """A V2 request that fits ``signature``; ``msgspec.UNSET`` where it has no JSON form or would be too large."""
    inputs = []
    for spec in signature.inputs:
        shape = [1 if length == FREE else length for length in spec.shape]
        elements = math.prod(shape)
        if elements > MOST_ELEMENTS or not spec.type.json_number:
            return msgspec.UNSET
        data = [_element(spec)] * elements
        inputs.append({"name": spec.name, "datatype": spec.datatype, "shape": shape, "data": data})
    return {"inputs": inputs}


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
    text: str = "dGV4dA==" if schema.get("contentEncoding") == "base64" else "text"
    return text.ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength")]
