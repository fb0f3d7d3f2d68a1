"""A model's configuration in Triton's terms, as ``GET …/config`` and gRPC's ``ModelConfig`` give it.

Source: Triton, ``extension_model_configuration.md`` and ``model_config.proto``. With a ``max_batch_size`` above 0 the
shapes of a model's metadata include the batch axis and ``dims`` here do not: by this rule clients read both.
"""

from __future__ import annotations

from typing import Any

import msgspec

from setpoint.core import ModelManifest, TensorSpec
from setpoint.wire.metadata import platform_of

_OF_CPU, _OF_OTHERS = "KIND_CPU", "KIND_GPU"


def model_config(
    name: str, manifest: ModelManifest, workers: int, most_rows: int, *, device: str, cached: bool
) -> bytes:
    """Body of ``GET /v2/models/NAME/config``.

    Args:
        name: of the model.
        manifest: of its bundle.
        workers: processes that serve it.
        most_rows: of one request, where requests can have several.
        device: that the most accurate variant is on; Triton's terms know the CPU and all others as GPU.
        cached: whether answers are kept and given again.
    """
    signature = manifest.signature
    kind = _OF_CPU if device == "cpu" else _OF_OTHERS
    variant = manifest.variants[0]
    batched = signature is not None and signature.batched
    endpoint = manifest.tensor_endpoint
    most_rows = (endpoint.batch_rows if endpoint is not None else 0) or most_rows
    document: dict[str, Any] = {
        "name": name,
        "platform": platform_of(manifest),
        "backend": variant.engine,
        "runtime": "",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": most_rows if batched else 0,
        "input": [_input(spec, batched) for spec in signature.inputs] if signature else [],
        "output": [_output(spec, batched) for spec in signature.outputs] if signature else [],
        "instance_group": [{"name": name, "kind": kind, "count": workers, "gpus": []}],
        "default_model_filename": variant.artifact,
        "parameters": {"device": {"string_value": device}},
        "model_transaction_policy": {"decoupled": False},
        "response_cache": {"enable": cached},
    }
    if batched:
        document["dynamic_batching"] = {
            "preferred_batch_size": [],
            "max_queue_delay_microseconds": 0,
            "preserve_ordering": False,
            "priority_levels": 0,
            "default_priority_level": 0,
        }
    return msgspec.json.encode(document)


def _input(spec: TensorSpec, batched: bool) -> dict[str, Any]:
    return {
        "name": spec.name,
        "data_type": _data_type(spec),
        "format": "FORMAT_NONE",
        "dims": list(spec.shape[1:] if batched else spec.shape),
        "is_shape_tensor": False,
        "allow_ragged_batch": False,
        "optional": False,
    }


def _output(spec: TensorSpec, batched: bool) -> dict[str, Any]:
    return {
        "name": spec.name,
        "data_type": _data_type(spec),
        "dims": list(spec.shape[1:] if batched else spec.shape),
        "label_filename": "",
        "is_shape_tensor": False,
    }


def _data_type(spec: TensorSpec) -> str:
    return "TYPE_STRING" if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}"
