"""LiteRT (TensorFlow Lite) files."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import cast

from setpoint.core import InvalidConfiguration, Lineage, ModelError
from setpoint.engines import FREE_ROWS, EngineOptions, engine
from setpoint.formats.base import PackedModel, PackOptions
from setpoint.formats.peek import first_bytes
from setpoint.formats.probe import Loaded, Probe, probe_loaded
from setpoint.formats.tensor_model import source_digest, tensor_manifest

_MARK, _MARK_AT = b"TFL3", 4
_WHOLE_NUMBERS = frozenset({"INT8", "UINT8"})


class LitertFormat:
    """A ``.tflite`` flatbuffer, served as it is."""

    name = "litert"

    def recognises(self, source: Path) -> bool:
        """Whether the flatbuffer's mark is TensorFlow Lite's."""
        return first_bytes(source)[_MARK_AT:].startswith(_MARK)

    def pack(self, source: Path, options: PackOptions, workdir: Path) -> PackedModel:
        """Probe it. Files are mostly exported for one row; where more rows are each the row alone, it is batched.

        Raises:
            MissingExtra: ai-edge-litert is not installed.
            InvalidConfiguration: it cannot be loaded, or nothing runs through it.
        """
        entry = FREE_ROWS
        try:
            found = _probe(source, options, entry)
        except InvalidConfiguration:  # it may still run on the one row that it was exported for
            found = None
        if found is None or not found.signature.batched:
            entry = ""
            found = _probe(source, options, entry)
        precision = "int8" if {spec.datatype for spec in found.signature.inputs} & _WHOLE_NUMBERS else "fp32"
        tools = {"ai-edge-litert": importlib.metadata.version("ai-edge-litert")}
        lineage = Lineage(self.name, source_digest(source), tools, ("served by LiteRT, as it is", *found.checks))
        manifest = tensor_manifest(
            found.signature, precision, lineage, engine="litert", artifact="model.tflite", entry=entry
        )
        return PackedModel(manifest, {"model.tflite": source}, source.resolve().stem)


def _probe(source: Path, options: PackOptions, entry: str) -> Probe:
    try:
        executable = cast(Loaded, engine("litert").load(source, entry, EngineOptions()))
    except ModelError as error:
        raise InvalidConfiguration(error.message) from error
    return probe_loaded(executable, options.sample)
