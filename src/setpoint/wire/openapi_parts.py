"""Pieces of which the OpenAPI document is made."""

from __future__ import annotations

from typing import Any

import msgspec

from setpoint.wire.openapi_examples import REFERENCE

Json = dict[str, Any]

ERRORS = {
    "400": ("InvalidRequest", "The request is malformed or does not fit the model."),
    "404": ("NotFound", "No such model, version, endpoint or route."),
    "405": ("MethodNotAllowed", "The route exists, the method does not; see the Allow header."),
    "408": ("RequestTimeout", "The request took too long to arrive."),
    "413": ("TooLarge", "The request body is beyond its limit."),
    "415": ("UnsupportedMedia", "The content type or encoding is not one this route reads."),
    "429": ("OverShare", "Busy, and this tenant uses more than its share; come again after Retry-After seconds."),
    "431": ("HeadersTooLarge", "The request's headers are beyond their limit."),
    "500": ("ModelError", "The model failed on this input."),
    "503": ("Refused", "Busy, starting or shutting down; come again after Retry-After seconds."),
    "504": ("DeadlineExceeded", "The request waited longer than it may live."),
}
ON_EVERY_ROUTE = ("404", "405", "431")
ON_POST = ("400", "408", "413", "415", "429", "500", "503", "504")


def object_of(required: Json, **optional: Any) -> Json:
    """The schema of an object with these properties."""
    return {"type": "object", "properties": required | optional, "required": list(required)}


def reference(name: str) -> Json:
    """A component's schema, by its name."""
    return {"$ref": REFERENCE + name}


def json_answer(description: str, schema: str) -> Json:
    """A JSON answer with a component's schema."""
    return {"description": description, "content": {"application/json": {"schema": reference(schema)}}}


def error_responses() -> Json:
    """The components of all errors."""
    content = {"application/json": {"schema": reference("Error")}}
    return {name: {"description": description, "content": content} for name, description in ERRORS.values()}


def errors(*statuses: str) -> Json:
    """What a route answers with one of these statuses, or with those that every route has."""
    listed = sorted({*statuses, *ON_EVERY_ROUTE})
    return {status: {"$ref": f"#/components/responses/{ERRORS[status][0]}"} for status in listed}


def with_example(media: Json, example: Any) -> Json:
    """The same with an example, if there is one."""
    return media if example is msgspec.UNSET else media | {"example": example}
