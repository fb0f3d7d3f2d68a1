"""OpenVINO's intermediate representation: ``model.xml`` with ``model.bin`` beside it."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import Any

from setpoint.core import DATATYPES, InvalidConfiguration, Lineage, MissingExtra, ModelError, UntrustedFile
from setpoint.engines import Arrays, DeclaredTensor, EngineOptions, engine
from setpoint.formats.base import PackedModel, PackOptions
from setpoint.formats.probe import probe_loaded
from setpoint.formats.tensor_model import source_digest, tensor_manifest

_PEEK_BYTES = 4096
_HEAD = re.compile(rb"\s*(?:<\?xml[^>]*\?>\s*)?(?:<!--.*?-->\s*)*<net\s[^>]*\bversion=\"1[01]\"", re.DOTALL)
_ENTITY = re.compile(rb"<!(?:DOCTYPE|ENTITY)")
_TYPES = {"boolean": "BOOL", "string": "BYTES", "f16": "FP16", "f32": "FP32", "f64": "FP64", "bf16": "BF16"} | {
    f"{kind}{bits}": f"{name}{bits}" for kind, name in (("i", "INT"), ("u", "UINT")) for bits in (8, 16, 32, 64)
}
_FILES_LIMIT = 1000


class OpenvinoFormat:
    """An ``.xml`` of version 10 or 11, or a folder with one; served by OpenVINO as it is."""

    name = "openvino"

    def recognises(self, source: Path) -> bool:
        """Whether the XML's root is a network of OpenVINO's."""
        return _is_network(source) if source.is_file() else len(_networks_in(source)) == 1

    def pack(self, source: Path, options: PackOptions, workdir: Path) -> PackedModel:
        """Probe it in 32-bit floats.

        Raises:
            MissingExtra: openvino is not installed.
            UntrustedFile: the XML defines entities.
            InvalidConfiguration: it cannot be loaded, its weights are missing, or nothing runs through it.
        """
        network = source if source.is_file() else _networks_in(source)[0]
        weights = network.with_suffix(".bin")
        content = network.read_bytes()
        if _ENTITY.search(content):
            raise UntrustedFile(f"{network} defines XML entities, which no OpenVINO model needs; it is not read")
        if not weights.is_file() and b'size="' in content and b'type="Const"' in content:
            raise InvalidConfiguration(f"{network}: its weights file {weights.name!r} is missing beside it")
        try:
            inputs, outputs = _declared(network)
            executable = engine("openvino").load(network, "", EngineOptions())
        except ModelError as error:
            raise InvalidConfiguration(error.message) from error
        found = probe_loaded(_Declared(executable.run, inputs, outputs), options.sample)
        tools = {"openvino": importlib.metadata.version("openvino")}
        lineage = Lineage(self.name, source_digest(source), tools, ("served by OpenVINO, as it is", *found.checks))
        manifest = tensor_manifest(found.signature, "fp32", lineage, engine="openvino", artifact="model.xml")
        files = {"model.xml": network} | ({"model.bin": weights} if weights.is_file() else {})
        return PackedModel(manifest, files, network.resolve().stem)


class _Declared:
    """A run with what the file declares, for the probe."""

    def __init__(self, run: Any, inputs: tuple[DeclaredTensor, ...], outputs: tuple[DeclaredTensor, ...]) -> None:
        self._run = run
        self.inputs = inputs
        self.outputs = outputs

    def run(self, inputs: Arrays) -> dict[str, Any]:
        """Compute every output."""
        answers: dict[str, Any] = self._run(inputs)
        return answers


def _is_network(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _HEAD.match(file.read(_PEEK_BYTES)) is not None


def _networks_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = sorted(path for path, _ in zip(folder.glob("*.xml"), range(_FILES_LIMIT), strict=False))
    return [path for path in found if _is_network(path)]


def _declared(network: Path) -> tuple[tuple[DeclaredTensor, ...], tuple[DeclaredTensor, ...]]:
    try:
        import openvino
    except ImportError as error:
        raise MissingExtra("openvino", "openvino", f"packing {network.name}") from error
    try:
        model = openvino.Core().read_model(network)
        return tuple(map(_tensor, model.inputs)), tuple(map(_tensor, model.outputs))
    except RuntimeError as error:
        said = " ".join(str(error).split())[:200]
        raise InvalidConfiguration(f"{network} cannot be read by OpenVINO: {said}") from error


def _tensor(port: Any) -> DeclaredTensor:
    kind = port.get_element_type().get_type_name()
    name = str(port.get_any_name())
    if _TYPES.get(kind) not in DATATYPES:
        raise InvalidConfiguration(f"tensor {name!r} is of type {kind}, which is not served")
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        raise InvalidConfiguration(f"tensor {name!r} does not say how many axes it has; convert the model with shapes")
    axes = tuple(axis.get_length() if axis.is_static else None for axis in shape)
    return DeclaredTensor(name, _TYPES[kind], axes)
