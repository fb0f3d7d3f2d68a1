"""Open Inference Protocol V2: what a server and its models say of themselves.

Source: open-inference-protocol, ``inference_rest.md``: server metadata, model metadata, health.
"""

from __future__ import annotations

from typing import Any

import msgspec

from setpoint.core import COMPOSITION_ENGINE, ModelManifest

SERVER_NAME = "setpoint"
EXTENSIONS: tuple[str, ...] = (
    "binary_tensor_data",
    "classification",
    "generate",
    "model_configuration",
    "parameters",
    "schedule_policy",
    "statistics",
)
"""V2 extensions that every node has. Clients branch on the list they are given, so only what works stands there."""


def server_metadata(version: str, *, repository: bool = False, shared_memory: bool = False) -> bytes:
    """Body of ``GET /v2``.

    Args:
        version: of the server.
        repository: somebody may load and unload models.
        shared_memory: clients may register any.
    """
    optional = {"model_repository": repository, "system_shared_memory": shared_memory}
    extensions = sorted([*EXTENSIONS, *(name for name, offered in optional.items() if offered)])
    return msgspec.json.encode({"name": SERVER_NAME, "version": version, "extensions": extensions})


def model_metadata(name: str, versions: list[str], manifest: ModelManifest) -> bytes:
    """Body of ``GET /v2/models/NAME``. A model that tensors cannot describe has empty lists of them."""
    signature = manifest.signature
    document: dict[str, Any] = {
        "name": name,
        "versions": versions,
        "platform": platform_of(manifest),
        "inputs": [msgspec.to_builtins(spec) for spec in signature.inputs] if signature else [],
        "outputs": [msgspec.to_builtins(spec) for spec in signature.outputs] if signature else [],
    }
    return msgspec.json.encode(document)


def platform_of(manifest: ModelManifest) -> str:
    """The V2 platform string, in the ``PROJECT_FORMAT`` form: ``onnxruntime_onnx``, ``setpoint_python``."""
    engine = manifest.variants[0].engine
    return f"setpoint_{engine}" if engine in ("python", COMPOSITION_ENGINE) else f"{engine}_onnx"
