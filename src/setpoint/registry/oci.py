"""The OCI side of a bundle: media types, and its manifest and config documents as canonical JSON. Pure.

Follows the OCI image specification 1.1 and the CNCF ModelPack model specification (media types of its
``specs-go/v1/mediatype.go``): one uncompressed layer per file, each annotated with its path.
"""

from __future__ import annotations

import posixpath
from typing import Any

import msgspec

from setpoint.core import CorruptBundle, ModelManifest
from setpoint.registry.bundle import MANIFEST_PATH, BundleFile

LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'
MEDIA_INDEX = "application/vnd.oci.image.index.v1+json"
MEDIA_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_MODEL = "application/vnd.cncf.model.manifest.v1+json"
MEDIA_CONFIG = "application/vnd.cncf.model.config.v1+json"
_LAYER = "application/vnd.cncf.model.{kind}.v1.raw"
ANNOTATION_PATH = "org.cncf.model.filepath"
ANNOTATION_REF = "org.opencontainers.image.ref.name"
ANNOTATION_CREATED = "org.opencontainers.image.created"

_KIND_BY_SUFFIX = {
    ".py": "code",
    ".md": "doc",
    ".rst": "doc",
    ".json": "weight.config",
    ".toml": "weight.config",
    ".txt": "weight.config",
    ".yaml": "weight.config",
}


class Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """OCI content descriptor: a typed pointer to a blob."""

    media_type: str
    digest: str
    size: int
    artifact_type: str = ""
    annotations: dict[str, str] = {}
    urls: tuple[str, ...] = ()
    data: str = ""
    platform: dict[str, Any] = {}


class OciManifest(msgspec.Struct, frozen=True, rename="camel"):
    """The OCI image manifest of one bundle."""

    schema_version: int
    media_type: str
    artifact_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


def layer_of(file: BundleFile) -> Descriptor:
    """The layer descriptor of one file."""
    return Descriptor(
        _LAYER.format(kind=_kind_of(file.path)), file.digest, file.size_bytes, annotations={ANNOTATION_PATH: file.path}
    )


def _kind_of(path: str) -> str:
    stem, suffix = posixpath.splitext(posixpath.basename(path))
    if stem.upper() in ("README", "LICENSE", "NOTICE"):
        return "doc"
    return _KIND_BY_SUFFIX.get(suffix, "weight")


def config_json(manifest: ModelManifest, files: tuple[BundleFile, ...]) -> bytes:
    """The ModelPack config document. It holds no time and no name, so equal content gives equal bytes."""
    first = manifest.variants[0]
    return _canonical(
        {
            "descriptor": {},
            "config": {"format": posixpath.splitext(first.artifact)[1].lstrip("."), "precision": first.precision},
            "modelfs": {"type": "layers", "diffIds": [file.digest for file in files]},
        }
    )


def manifest_json(config: Descriptor, files: tuple[BundleFile, ...]) -> bytes:
    """The OCI manifest document; its sha256 is the bundle's digest."""
    layers = tuple(layer_of(file) for file in files)
    return _canonical(OciManifest(2, MEDIA_MANIFEST, ARTIFACT_MODEL, config, layers))


def parse_manifest(document: bytes, digest: str) -> OciManifest:
    """Read ``manifest_json``'s bytes, or another tool's.

    Raises:
        CorruptBundle: not an OCI manifest.
    """
    try:
        return msgspec.json.decode(document, type=OciManifest)
    except msgspec.MsgspecError as error:
        raise CorruptBundle(f"{digest} is not the manifest of a model: {error}") from error


def files_of(manifest: OciManifest, digest: str) -> tuple[BundleFile, ...]:
    """The files a manifest lists, by path.

    Raises:
        CorruptBundle: a layer without a path, a path that leaves the bundle, or no ``setpoint.json``.
    """
    files = []
    for layer in manifest.layers:
        path = layer.annotations.get(ANNOTATION_PATH, "")
        if not is_confined(path):
            raise CorruptBundle(f"{digest} lists a file at {path!r}, which is not a path inside the bundle")
        files.append(BundleFile(path, layer.digest, layer.size))
    if len({file.path for file in files}) != len(files):
        raise CorruptBundle(f"{digest} lists a file twice")
    if all(file.path != MANIFEST_PATH for file in files):
        raise CorruptBundle(f"{digest} was not made by Setpoint: it holds no {MANIFEST_PATH}")
    return tuple(sorted(files, key=lambda file: file.path))


def is_confined(path: str) -> bool:
    """Whether ``path`` is relative, normal and stays inside its folder."""
    parts = path.split("/")
    return "\\" not in path and "\0" not in path and all(part not in ("", ".", "..") for part in parts)


def _canonical(value: Any) -> bytes:
    return msgspec.json.encode(value, order="deterministic")
