"""ONNX Runtime's own format (``.ort``): an optimised graph as a flatbuffer."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from setpoint.core import Lineage
from setpoint.formats.base import PackedModel, PackOptions
from setpoint.formats.peek import first_bytes
from setpoint.formats.probe import probe
from setpoint.formats.tensor_model import source_digest, tensor_manifest

_MARK, _MARK_AT = b"ORTM", 4
_ARTIFACT = "model.ort"  # the library tells the format by the suffix


class OrtFormat:
    """What ONNX Runtime writes for small devices. Layouts of its writer's processor may be in it; kept as it is."""

    name = "ort"

    def recognises(self, source: Path) -> bool:
        """Whether the flatbuffer's mark is ONNX Runtime's."""
        return first_bytes(source)[_MARK_AT:].startswith(_MARK)

    def pack(self, source: Path, options: PackOptions, workdir: Path) -> PackedModel:
        """Probe it.

        Raises:
            InvalidConfiguration: it cannot be loaded, such as when it was written by a later version, or nothing runs.
        """
        artifact = source
        if source.suffix != ".ort":
            artifact = workdir / _ARTIFACT
            artifact.write_bytes(source.read_bytes())
        found = probe(artifact, options.sample)
        tools = {"onnxruntime": importlib.metadata.version("onnxruntime")}
        lineage = Lineage(self.name, source_digest(source), tools, found.checks)
        manifest = tensor_manifest(found.signature, "fp32", lineage, artifact=_ARTIFACT)
        return PackedModel(manifest, {_ARTIFACT: artifact}, source.resolve().stem)
