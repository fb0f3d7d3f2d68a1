"""The routes that OpenAI clients call, as the OpenAPI document describes them."""

from __future__ import annotations

from collections.abc import Sequence

from setpoint.core import EMBED, ModelManifest
from setpoint.wire.openai_embeddings import INPUT_LIMIT
from setpoint.wire.openapi_parts import Json, json_answer, object_of, reference

_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_TAG = "OpenAI"


def openai_tags() -> list[Json]:
    """The tag of these routes."""
    return [{"name": _TAG, "description": "For OpenAI clients: models that embed text"}]


def openai_paths(models: Sequence[tuple[str, ModelManifest]]) -> Json:
    """``/v1/models`` and ``/v1/embeddings``; the example names a model that embeds, where one is served."""
    embeds = [name for name, manifest in models if any(one.task == EMBED for one in manifest.endpoints)]
    body: Json = {"schema": reference("EmbeddingsRequest")}
    if embeds:
        body["example"] = {"model": embeds[0], "input": ["text"], "encoding_format": "float"}
    model = {"name": "model", "in": "path", "required": True, "schema": _TEXT}
    return {
        "/v1/models": {"get": _operation("OpenAI.models", "Models that embed text", "OpenAIModels")},
        "/v1/models/{model}": {
            "get": _operation("OpenAI.model", "One of them", "OpenAIModel") | {"parameters": [model]},
        },
        "/v1/embeddings": {
            "post": _operation("OpenAI.embeddings", "Turn text into vectors", "EmbeddingsResponse")
            | {"requestBody": {"required": True, "content": {"application/json": body}}},
        },
    }


def openai_schemas() -> Json:
    """The components that these routes refer to."""
    listed = object_of({"id": _TEXT, "object": {"const": "model"}, "created": _COUNT, "owned_by": _TEXT})
    ids: Json = {"type": "array", "items": _COUNT, "minItems": 1}
    several = {"minItems": 1, "maxItems": INPUT_LIMIT}
    vector: Json = {"anyOf": [{"type": "array", "items": {"anyOf": [{"type": "number"}, {"type": "null"}]}}, _TEXT]}
    row = object_of({"object": {"const": "embedding"}, "index": _COUNT, "embedding": vector})
    maybe_text: Json = {"type": ["string", "null"]}
    error = object_of({"message": _TEXT, "type": _TEXT, "param": maybe_text, "code": maybe_text})
    return {
        "OpenAIModel": listed,
        "OpenAIModels": object_of({"object": {"const": "list"}, "data": {"type": "array", "items": listed}}),
        "EmbeddingsRequest": object_of(
            {
                "model": _TEXT,
                "input": {
                    "anyOf": [
                        _TEXT,
                        {"type": "array", "items": _TEXT, **several},
                        ids,
                        {"type": "array", "items": ids, **several},
                    ]
                },
            },
            encoding_format={"enum": ["float", "base64", None]},
            dimensions={"type": ["integer", "null"], "minimum": 1},
            user=maybe_text,
        ),
        "EmbeddingsResponse": object_of(
            {
                "object": {"const": "list"},
                "data": {"type": "array", "items": row},
                "model": _TEXT,
                "usage": object_of({"prompt_tokens": _COUNT, "total_tokens": _COUNT}, counted=_TEXT),
            }
        ),
        "OpenAIError": object_of({"error": error}),
    }


def _operation(identifier: str, summary: str, answer: str) -> Json:
    refused = json_answer("Refused or failed; code says why", "OpenAIError")
    responses = {"200": json_answer(summary, answer), "4XX": refused, "5XX": refused}
    return {"tags": [_TAG], "operationId": identifier, "summary": summary, "responses": responses}
