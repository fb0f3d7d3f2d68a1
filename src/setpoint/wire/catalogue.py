"""``GET /models``: what a node serves, for clients and people who do not know yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from setpoint.core import ModelManifest


def catalogue_entry(
    name: str, version: int, digest: str, manifest: ModelManifest, devices: Mapping[str, str], *, ready: bool
) -> dict[str, Any]:
    """One model: its name and version, whether it can answer, on which device each variant is, its endpoints as
    ``NAME/ENDPOINT``, its tensors."""
    signature = manifest.signature
    return {
        "name": name,
        "version": str(version),
        "digest": digest,
        "ready": ready,
        "devices": devices,
        "endpoints": [f"{name}/{endpoint.name}" for endpoint in manifest.endpoints],
        "inputs": signature.inputs if signature else (),
        "outputs": signature.outputs if signature else (),
    }


def catalogue(entries: Iterable[dict[str, Any]]) -> bytes:
    """Body of ``GET /models``."""
    return msgspec.json.encode({"models": list(entries)})
