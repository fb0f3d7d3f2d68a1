"""The manifest of a model whose whole interface is tensors: one endpoint, ``predict``. Also: digests of sources."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from setpoint.core import FREE, Endpoint, Lineage, ModelManifest, Parameter, Signature, TensorSpec, Variant

ENDPOINT = "predict"
ARTIFACT = "model.onnx"
BATCH_ROWS = 64
"""Most rows that run together, until a measured profile knows better."""


def tensor_manifest(
    signature: Signature,
    precision: str,
    lineage: Lineage,
    *,
    engine: str = "onnxruntime",
    artifact: str = ARTIFACT,
    entry: str = "",
) -> ModelManifest:
    """Describe a model of tensors as it is served.

    Args:
        signature: as probed.
        precision: of the weights, such as ``fp32``; the variant is called by it.
        lineage: where the model came from.
        engine: that runs it.
        artifact: path in the bundle of the file that the engine loads.
        entry: what to take from the artifact, where the engine asks.
    """
    endpoint = Endpoint(
        name=ENDPOINT,
        parameters=tuple(Parameter(spec.name, tensor_schema(spec)) for spec in signature.inputs),
        result={
            "type": "object",
            "properties": {spec.name: tensor_schema(spec) for spec in signature.outputs},
            "required": [spec.name for spec in signature.outputs],
        },
        batch_rows=BATCH_ROWS if signature.batched else 0,
        signature=signature,
        summary=str(signature),
    )
    variant = Variant(name=precision, engine=engine, artifact=artifact, entry=entry, precision=precision)
    return ModelManifest((endpoint,), (variant,), lineage)


def tensor_schema(spec: TensorSpec) -> dict[str, Any]:
    """JSON Schema of a tensor as nested lists, the outermost list being the first axis."""
    schema = _element_schema(spec)
    for length in reversed(spec.shape):
        bounds = {} if length == FREE else {"minItems": length, "maxItems": length}
        schema = {"type": "array", "items": schema, **bounds}
    return schema


def _element_schema(spec: TensorSpec) -> dict[str, Any]:
    if spec.datatype == "BYTES":
        return {"type": "string"}
    if spec.datatype == "BOOL":
        return {"type": "boolean"}
    if spec.type.is_integer:
        limits = np.iinfo(spec.type.dtype)
        return {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}
    return {"type": ["number", "null"]}  # JSON has no NaN


def source_digest(source: Path) -> str:
    """``sha256:`` of a file's bytes, or of a folder's sorted paths and bytes. Symbolic links are followed."""
    if source.is_file():
        with source.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    hasher = hashlib.sha256()
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        hasher.update(f"{path.relative_to(source).as_posix()}\0{source_digest(path)}\n".encode())
    return f"sha256:{hasher.hexdigest()}"
