"""The OpenAPI 3.1 document of a node: every route of every model it serves, with types, errors and examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from setpoint.core import Endpoint, ModelManifest
from setpoint.wire.openapi_examples import REFERENCE, example_of, infer_example
from setpoint.wire.openapi_openai import catalogue_path, openai_paths, openai_schemas, openai_tags

OPENAPI_VERSION = "3.1.0"
Json = dict[str, Any]

_ERRORS = {
    "400": ("InvalidRequest", "The request is malformed or does not fit the model."),
    "404": ("NotFound", "No such model, version, endpoint or route."),
    "405": ("MethodNotAllowed", "The route exists, the method does not; see the Allow header."),
    "408": ("RequestTimeout", "The request took too long to arrive."),
    "413": ("TooLarge", "The request body is beyond its limit."),
    "415": ("UnsupportedMedia", "The content type or encoding is not one this route reads."),
    "431": ("HeadersTooLarge", "The request's headers are beyond their limit."),
    "500": ("ModelError", "The model failed on this input."),
    "503": ("Refused", "Busy, starting or shutting down; come again after Retry-After seconds."),
    "504": ("DeadlineExceeded", "The request waited longer than it may live."),
}
_ON_EVERY_ROUTE = ("404", "405", "431")
_ON_POST = ("400", "408", "413", "415", "500", "503", "504")


def openapi_document(models: Sequence[tuple[str, ModelManifest]], version: str) -> Json:
    """Describe a node's HTTP interface.

    Args:
        models: name and manifest of each model served; names are unique.
        version: of the server.

    Returns:
        a document that the OpenAPI 3.1 schema accepts. A model's schema ``Hit`` is the component ``NAME.Hit``, so
        that models never share one; components without a dot are the server's own.
    """
    schemas = _own_schemas() | openai_schemas()
    paths: Json = _server_paths() | catalogue_path(_errors()) | openai_paths(models)
    for name, manifest in models:
        schemas |= {f"{name}.{key}": _renamed(schema, name) for key, schema in manifest.schemas.items()}
    for name, manifest in models:
        for endpoint in manifest.endpoints:
            paths[f"/models/{quote(name)}/{quote(endpoint.name)}"] = {"post": _native(name, endpoint, schemas)}
        paths |= _v2_paths(name, manifest)
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "Setpoint",
            "version": version,
            "summary": "Models served over HTTP",
            "description": "Every model answers plain JSON at /models/NAME/ENDPOINT; where tensors suffice also the "
            "Open Inference Protocol V2.",
        },
        "servers": [{"url": "/"}],
        "tags": [
            *({"name": name, "description": _model_summary(manifest)} for name, manifest in models),
            *openai_tags(),
            {"name": "server", "description": "Health, metadata and metrics of the server"},
        ],
        "paths": paths,
        "components": {"schemas": schemas, "responses": _error_responses()},
    }


def _native(model: str, endpoint: Endpoint, schemas: Json) -> Json:
    body: Json = {
        "type": "object",
        "properties": {parameter.name: _renamed(parameter.schema, model) for parameter in endpoint.parameters},
        "additionalProperties": False,
    }
    if required := [parameter.name for parameter in endpoint.parameters if parameter.required]:
        body["required"] = required
    content: Json = {"application/json": _with_example({"schema": body}, example_of(body, schemas))}
    if endpoint.body == "bytes":
        content["application/octet-stream"] = {}  # any bytes: OpenAPI 3.1 says so by giving no schema
    words = {"summary": endpoint.summary, "description": _native_description(endpoint)}
    return {
        "tags": [model],
        "operationId": f"{model}.{endpoint.name}",
        **{key: text for key, text in words.items() if text},
        "requestBody": {"required": bool(required), "content": content},
        "responses": {"200": _native_answer(model, endpoint)} | _errors(*_ON_POST),
    }


def _native_description(endpoint: Endpoint) -> str:
    sentences = []
    if endpoint.batch_rows:
        sentences.append(
            "Every argument is a list with one element per row; rows of several requests run together, "
            f"at most {endpoint.batch_rows} at once."
        )
    if endpoint.body == "bytes":
        row = "one row as the bytes themselves" if endpoint.batch_rows else "the bytes themselves"
        sentences.append(f"The body may also be {row}, with any content type but JSON.")
    if endpoint.streams:
        sentences.append("Streams server-sent events; the data of each is one JSON document.")
    return " ".join(sentences)


def _native_answer(model: str, endpoint: Endpoint) -> Json:
    result = _renamed(endpoint.result, model)
    if not endpoint.streams:
        return {"description": "The answer", "content": {"application/json": {"schema": result}}}
    events = {"schema": {"type": "string", "description": "data: JSON"}, "x-event-schema": result}
    return {
        "description": "Events as they come. If the model fails after the first one, an event named error ends them.",
        "content": {"text/event-stream": events},
    }


def _v2_paths(name: str, manifest: ModelManifest) -> Json:
    whole = f"/v2/models/{quote(name)}"
    paths: Json = {}
    for base, suffix, parameters in (
        (whole, "", []),
        (f"{whole}/versions/{{version}}", "_version", [_version_parameter()]),
    ):
        common: Json = {"tags": [name], "parameters": parameters} if parameters else {"tags": [name]}
        paths[base] = {
            "get": common
            | {
                "operationId": f"v2.{name}{suffix}",
                "summary": "Model metadata",
                "responses": {"200": _json("Inputs and outputs", "ModelMetadata")} | _errors(),
            }
        }
        paths[f"{base}/ready"] = {
            "get": common
            | {
                "operationId": f"v2.{name}{suffix}.ready",
                "summary": "Is the model ready?",
                "responses": {"200": _json("Yes", "ModelReady"), "503": _json("No", "ModelReady")} | _errors(),
            }
        }
        if manifest.signature is not None:
            media = _with_example({"schema": _reference("InferRequest")}, infer_example(manifest.signature))
            paths[f"{base}/infer"] = {
                "post": common
                | {
                    "operationId": f"v2.{name}{suffix}.infer",
                    "summary": "Open Inference Protocol inference",
                    "description": f"`{manifest.signature}`",
                    "requestBody": {"required": True, "content": {"application/json": media}},
                    "responses": {"200": _json("Outputs", "InferResponse")} | _errors(*_ON_POST),
                }
            }
    return paths


def _server_paths() -> Json:
    def get(identifier: str, summary: str, answers: Json) -> Json:
        operation = {"tags": ["server"], "operationId": identifier, "summary": summary}
        return {"get": operation | {"responses": answers | _errors()}}

    text = {"description": "Prometheus text", "content": {"text/plain": {"schema": {"type": "string"}}}}
    document = {"description": "This document", "content": {"application/json": {"schema": {"type": "object"}}}}
    ready = {"200": _json("Yes", "Ready"), "503": _json("No", "Ready")}
    return {
        "/v2": get("v2", "Server metadata", {"200": _json("Name, version, extensions", "ServerMetadata")}),
        "/v2/health/live": get("v2.live", "Is the server alive?", {"200": _json("Yes", "Live")}),
        "/v2/health/ready": get("v2.ready", "Are all models ready?", ready),
        "/metrics": get("metrics", "Metrics", {"200": text}),
        "/openapi.json": get("openapi", "This interface, described", {"200": document}),
    }


def _own_schemas() -> Json:
    text, flag = {"type": "string"}, {"type": "boolean"}
    shape = {"type": "array", "items": {"type": "integer"}}
    parameters = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
    tensor = _object({"name": text, "datatype": text, "shape": shape, "data": {"type": "array"}}, parameters=parameters)
    described = {"type": "array", "items": _object({"name": text, "datatype": text, "shape": shape})}
    return {
        "Error": _object({"error": text}),
        "Live": _object({"live": flag}),
        "Ready": _object({"ready": flag}),
        "ModelReady": _object({"name": text, "ready": flag}),
        "ServerMetadata": _object({"name": text, "version": text, "extensions": {"type": "array", "items": text}}),
        "ModelMetadata": _object(
            {
                "name": text,
                "versions": {"type": "array", "items": text},
                "platform": text,
                "inputs": described,
                "outputs": described,
            }
        ),
        "Tensor": tensor | {"description": "data is flat or nested, in row-major order"},
        "InferRequest": _object(
            {"inputs": {"type": "array", "items": _reference("Tensor")}},
            id=text,
            outputs={"type": "array", "items": _object({"name": text}, parameters=parameters)},
            parameters=parameters,
        ),
        "InferResponse": _object(
            {"model_name": text, "outputs": {"type": "array", "items": _reference("Tensor")}},
            model_version=text,
            id=text,
            parameters=parameters,
        ),
    }


def _object(required: Json, **optional: Any) -> Json:
    return {"type": "object", "properties": required | optional, "required": list(required)}


def _reference(name: str) -> Json:
    return {"$ref": REFERENCE + name}


def _json(description: str, schema: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": _reference(schema)}}}


def _error_responses() -> Json:
    content = {"application/json": {"schema": _reference("Error")}}
    return {name: {"description": description, "content": content} for name, description in _ERRORS.values()}


def _errors(*statuses: str) -> Json:
    listed = sorted({*statuses, *_ON_EVERY_ROUTE})
    return {status: {"$ref": f"#/components/responses/{_ERRORS[status][0]}"} for status in listed}


def _version_parameter() -> Json:
    description = "a version number or an alias"
    return {"name": "version", "in": "path", "required": True, "description": description, "schema": {"type": "string"}}


def _with_example(media: Json, example: Any) -> Json:
    return media if example is msgspec.UNSET else media | {"example": example}


def _model_summary(manifest: ModelManifest) -> str:
    endpoints = ", ".join(endpoint.name for endpoint in manifest.endpoints)
    return f"{manifest.lineage.format} model: {endpoints}"


def _renamed(schema: Any, model: str) -> Any:
    """A copy in which references point to the model's own components."""
    if isinstance(schema, dict):
        return {key: _renamed(value, model) for key, value in schema.items()}
    if isinstance(schema, list | tuple):
        return [_renamed(item, model) for item in schema]
    # Not only under "$ref": the mapping of a tagged union's discriminator holds references as plain strings.
    if isinstance(schema, str) and schema.startswith(REFERENCE):
        return f"{REFERENCE}{model}.{schema.removeprefix(REFERENCE)}"
    return schema
