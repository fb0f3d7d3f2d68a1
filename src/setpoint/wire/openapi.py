"""The OpenAPI 3.1 document of a node: every route of every model it serves, with types, errors and examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from setpoint.core import Endpoint, ModelManifest
from setpoint.wire.native_form import file_arguments, is_file
from setpoint.wire.openapi_examples import REFERENCE, example_of
from setpoint.wire.openapi_openai import openai_paths, openai_schemas, openai_tags
from setpoint.wire.openapi_parts import ON_POST, Json, error_responses, errors, json_answer, with_example
from setpoint.wire.openapi_v2 import v2_paths, v2_schemas

OPENAPI_VERSION = "3.1.0"


def openapi_document(models: Sequence[tuple[str, ModelManifest]], version: str) -> Json:
    """Describe a node's HTTP interface.

    Args:
        models: name and manifest of each model served; names are unique.
        version: of the server.

    Returns:
        a document that the OpenAPI 3.1 schema accepts. A model's schema ``Hit`` is the component ``NAME.Hit``, so
        that models never share one; components without a dot are the server's own.
    """
    schemas = v2_schemas() | openai_schemas()
    paths: Json = _server_paths() | openai_paths(models)
    for name, manifest in models:
        schemas |= {f"{name}.{key}": _renamed(schema, name) for key, schema in manifest.schemas.items()}
    for name, manifest in models:
        for endpoint in manifest.endpoints:
            paths[f"/models/{quote(name)}/{quote(endpoint.name)}"] = {"post": _native(name, endpoint, schemas)}
        paths |= v2_paths(name, manifest)
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
        "components": {"schemas": schemas, "responses": error_responses()},
    }


def _native(model: str, endpoint: Endpoint, schemas: Json) -> Json:
    body: Json = {
        "type": "object",
        "properties": {parameter.name: _renamed(parameter.schema, model) for parameter in endpoint.parameters},
        "additionalProperties": False,
    }
    if required := [parameter.name for parameter in endpoint.parameters if parameter.required]:
        body["required"] = required
    content: Json = {"application/json": with_example({"schema": body}, example_of(body, schemas))}
    if endpoint.body == "bytes":
        content["application/octet-stream"] = {}  # any bytes: OpenAPI 3.1 says so by giving no schema
    if file_arguments(endpoint):
        content["multipart/form-data"] = {"schema": _form(body)}
    words = {"summary": endpoint.summary, "description": _native_description(endpoint)}
    return {
        "tags": [model],
        "operationId": f"{model}.{endpoint.name}",
        **{key: text for key, text in words.items() if text},
        "requestBody": {"required": bool(required), "content": content},
        "responses": {"200": _native_answer(model, endpoint)} | errors(*ON_POST),
    }


def _form(body: Json) -> Json:
    """The same object as a form, in which a file is its bytes."""
    return body | {"properties": {name: _field(schema) for name, schema in body["properties"].items()}}


def _field(schema: Json) -> Json:
    if not is_file(schema):
        return schema
    if schema.get("type") == "array":
        return schema | {"items": _field(schema["items"])}
    told = {key: schema[key] for key in ("title", "description") if key in schema}
    if choices := [choice for choice in schema.get("anyOf", ()) if is_file(choice)]:
        return _field(choices[0]) | told  # null is no part of a form: the field is left out
    return told | {"contentMediaType": "application/octet-stream"}


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
    if file_arguments(endpoint):
        sentences.append(
            "Or a form, its fields called as the arguments: files and words as they are, other values as JSON; a list"
            " takes one part for each element."
        )
    if endpoint.streams:
        sentences.append("Streams server-sent events; the data of each is one JSON document.")
    return " ".join(sentences)


def _native_answer(model: str, endpoint: Endpoint) -> Json:
    result = _renamed(endpoint.result, model)
    if not endpoint.streams:
        return {"description": "The answer", "content": {"application/json": {"schema": result}}}
    events = {"x-event-schema": result}  # 3.1 has no word for what is in an event
    return {
        "description": "Events as they come. If the model fails after the first one, an event named error ends them.",
        "content": {"text/event-stream": events},
    }


def _server_paths() -> Json:
    def get(identifier: str, summary: str, answers: Json) -> Json:
        operation = {"tags": ["server"], "operationId": identifier, "summary": summary}
        return {"get": operation | {"responses": answers | errors()}}

    text = {"description": "Prometheus text", "content": {"text/plain": {"schema": {"type": "string"}}}}
    document = {"description": "This document", "content": {"application/json": {"schema": {"type": "object"}}}}
    models = json_answer("Names, versions, endpoints, tensors", "Catalogue")
    ready = {"200": json_answer("Yes", "Ready"), "503": json_answer("No", "Ready")}
    return {
        "/v2": get("v2", "Server metadata", {"200": json_answer("Name, version, extensions", "ServerMetadata")}),
        "/v2/health/live": get("v2.live", "Is the server alive?", {"200": json_answer("Yes", "Live")}),
        "/v2/health/ready": get("v2.ready", "Are all models ready?", ready),
        "/v2/models/stats": get("v2.stats", "Statistics", {"200": json_answer("Of every model", "Statistics")}),
        "/metrics": get("metrics", "Metrics", {"200": text}),
        "/openapi.json": get("openapi", "This interface, described", {"200": document}),
        "/models": get("models", "The models that are served", {"200": models}),
    }


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
