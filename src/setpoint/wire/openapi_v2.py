"""What the OpenAPI document says of the Open Inference Protocol."""

from __future__ import annotations

from urllib.parse import quote

from setpoint.core import ModelManifest
from setpoint.wire.generate import text_endpoint
from setpoint.wire.openapi_examples import infer_example
from setpoint.wire.openapi_parts import (
    ON_POST,
    Json,
    errors,
    json_answer,
    object_of,
    reference,
    with_example,
)

_BINARY: Json = {"application/octet-stream": {}}
"""Any bytes: OpenAPI 3.1 says so by giving no schema."""


def v2_paths(name: str, manifest: ModelManifest) -> Json:
    """Every route under ``/v2/models/NAME``."""
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
                "responses": {"200": json_answer("Inputs and outputs", "ModelMetadata")} | errors(),
            }
        }
        paths[f"{base}/ready"] = {
            "get": common
            | {
                "operationId": f"v2.{name}{suffix}.ready",
                "summary": "Is the model ready?",
                "responses": {"200": json_answer("Yes", "ModelReady"), "503": json_answer("No", "ModelReady")}
                | errors(),
            }
        }
        for part, summary, schema in (
            ("config", "Model configuration, as Triton gives it", "ModelConfig"),
            ("stats", "Counts and times since the model was loaded", "Statistics"),
        ):
            paths[f"{base}/{part}"] = {
                "get": common
                | {
                    "operationId": f"v2.{name}{suffix}.{part}",
                    "summary": summary,
                    "responses": {"200": json_answer(summary, schema)} | errors(),
                }
            }
        for streams, part in ((False, "generate"), (True, "generate_stream")):
            if text_endpoint(manifest.endpoints, streams=streams) is not None:
                paths[f"{base}/{part}"] = {"post": common | _generate(f"v2.{name}{suffix}.{part}", streams)}
        if manifest.signature is not None:
            media = with_example({"schema": reference("InferRequest")}, infer_example(manifest.signature))
            paths[f"{base}/infer"] = {
                "post": common
                | {
                    "operationId": f"v2.{name}{suffix}.infer",
                    "summary": "Open Inference Protocol inference",
                    "description": f"`{manifest.signature}`",
                    "requestBody": {"required": True, "content": {"application/json": media, **_BINARY}},
                    "parameters": [*parameters, _json_length_parameter()],
                    "responses": {"200": _infer_answer()} | errors(*ON_POST),
                }
            }
    return paths


def _generate(identifier: str, streams: bool) -> Json:
    body = {"schema": reference("GenerateRequest"), "example": {"text_input": "text"}}
    answer = json_answer("The text", "GenerateResponse")
    if streams:
        events = {"text/event-stream": {"x-event-schema": reference("GenerateResponse")}}
        answer = {"description": "Pieces of text as they come", "content": events}
    return {
        "operationId": identifier,
        "summary": "Text in, text out" + (", in pieces" if streams else ""),
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": {"200": answer} | errors(*ON_POST),
    }


def _infer_answer() -> Json:
    answer = json_answer("Outputs: JSON, or JSON and behind it the binary tensors that were asked for", "InferResponse")
    answer["content"] |= _BINARY
    return answer


def _json_length_parameter() -> Json:
    words = "where tensors stand behind the JSON: its length in bytes; 0 where the whole body is one tensor"
    schema = {"type": "integer", "minimum": 0}
    return {"name": "Inference-Header-Content-Length", "in": "header", "description": words, "schema": schema}


def _version_parameter() -> Json:
    description = "a version number or an alias"
    return {"name": "version", "in": "path", "required": True, "description": description, "schema": {"type": "string"}}


def v2_schemas() -> Json:
    """Components of V2's requests and answers, and of the server's own."""
    text, flag = {"type": "string"}, {"type": "boolean"}
    shape = {"type": "array", "items": {"type": "integer"}}
    parameters = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
    tensor = object_of({"name": text, "datatype": text, "shape": shape}, data={"type": "array"}, parameters=parameters)
    described = {"type": "array", "items": object_of({"name": text, "datatype": text, "shape": shape})}
    return {
        "Error": object_of({"error": text}),
        "Live": object_of({"live": flag}),
        "Ready": object_of({"ready": flag}),
        "ModelReady": object_of({"name": text, "ready": flag}),
        "ServerMetadata": object_of({"name": text, "version": text, "extensions": {"type": "array", "items": text}}),
        "ModelMetadata": object_of(
            {
                "name": text,
                "versions": {"type": "array", "items": text},
                "platform": text,
                "inputs": described,
                "outputs": described,
            }
        ),
        "ModelConfig": object_of(
            {
                "name": text,
                "platform": text,
                "backend": text,
                "max_batch_size": {"type": "integer"},
                "input": {"type": "array", "items": _configured()},
                "output": {"type": "array", "items": _configured()},
            }
        ),
        "Statistics": object_of({"model_stats": {"type": "array", "items": _model_statistics()}}),
        "Catalogue": object_of({"models": {"type": "array", "items": _catalogued()}}),
        "GenerateRequest": object_of({"text_input": text}, id=text, parameters=parameters),
        "GenerateResponse": object_of({"model_name": text, "model_version": text, "text_output": text}, id=text),
        "Tensor": tensor
        | {
            "description": "data is flat or nested, in row-major order; or parameters.binary_data_size says how many "
            "bytes of the body it is, behind the JSON"
        },
        "InferRequest": object_of(
            {"inputs": {"type": "array", "items": reference("Tensor")}},
            id=text,
            outputs={"type": "array", "items": object_of({"name": text}, parameters=parameters)},
            parameters=parameters,
        ),
        "InferResponse": object_of(
            {"model_name": text, "outputs": {"type": "array", "items": reference("Tensor")}},
            model_version=text,
            id=text,
            parameters=parameters,
        ),
    }


def _configured() -> Json:
    dims = {"type": "array", "items": {"type": "integer"}}
    return object_of({"name": {"type": "string"}, "data_type": {"type": "string"}, "dims": dims})


def _catalogued() -> Json:
    text = {"type": "string"}
    described = {"type": "array", "items": {"type": "object"}}
    return object_of(
        {
            "name": text,
            "version": text,
            "digest": text,
            "ready": {"type": "boolean"},
            "endpoints": {"type": "array", "items": text},
            "inputs": described,
            "outputs": described,
        }
    )


def _model_statistics() -> Json:
    number = {"type": "integer"}
    durations = {"type": "object", "additionalProperties": object_of({"count": number, "ns": number})}
    return object_of(
        {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "last_inference": number,
            "inference_count": number,
            "execution_count": number,
            "inference_stats": durations,
            "batch_stats": {"type": "array", "items": {"type": "object"}},
        },
        setpoint={"type": "object", "description": "how the objective was held in the last seconds"},
    )
