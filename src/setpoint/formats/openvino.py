"""OpenVINO's intermediate representation: ``model.xml`` with ``model.bin`` beside it."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import cast

from setpoint.core import InvalidConfiguration, Lineage, ModelError, UntrustedFile
from setpoint.engines import EngineOptions, engine
from setpoint.formats.base import PackedModel, PackOptions
from setpoint.formats.peek import first_bytes
from setpoint.formats.probe import Loaded, probe_loaded
from setpoint.formats.tensor_model import source_digest, tensor_manifest

_HEAD = re.compile(rb"\s*(?:<\?xml[^>]*\?>\s*)?(?:<!--.*?-->\s*)*<net\s[^>]*\bversion=\"1[01]\"", re.DOTALL)
_ENTITY = re.compile(rb"<!(?:DOCTYPE|ENTITY)")
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
            executable = cast(Loaded, engine("openvino").load(network, "", EngineOptions()))
            found = probe_loaded(executable, options.sample)
        except ModelError as error:
            raise InvalidConfiguration(error.message) from error
        tools = {"openvino": importlib.metadata.version("openvino")}
        lineage = Lineage(self.name, source_digest(source), tools, ("served by OpenVINO, as it is", *found.checks))
        manifest = tensor_manifest(found.signature, "fp32", lineage, engine="openvino", artifact="model.xml")
        files = {"model.xml": network} | ({"model.bin": weights} if weights.is_file() else {})
        return PackedModel(manifest, files, network.resolve().stem)


def _is_network(path: Path) -> bool:
    return _HEAD.match(first_bytes(path)) is not None


def _networks_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = sorted(path for path, _ in zip(folder.glob("*.xml"), range(_FILES_LIMIT), strict=False))
    return [path for path in found if _is_network(path)]
