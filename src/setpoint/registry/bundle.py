"""Bundle: a model made immutable, as the registry hands it out."""

from __future__ import annotations

import msgspec

from setpoint.core import ModelManifest

MANIFEST_PATH = "setpoint.json"
"""Where a bundle's own description lies among its files."""
EVIDENCE = "optimize.json"
"""In a bundle that was optimised: what was made, measured, judged and dropped."""
VARIANT_FOLDER = "variants"
"""In such a bundle: the files of variants that were made."""


class BundleFile(msgspec.Struct, frozen=True):
    """One file of a bundle.

    Attributes:
        path: inside the bundle, ``/`` between folders.
        digest: ``sha256:`` and 64 hex digits, of the bytes.
        size_bytes: of the file.
    """

    path: str
    digest: str
    size_bytes: int


class Bundle(msgspec.Struct, frozen=True):
    """One version of a named model.

    Attributes:
        name: it is called by.
        version: counts up from 1 per name; a number is never given twice.
        digest: of the OCI manifest, so of every byte of the bundle. Name, version and time are not part of it.
        manifest: what the model is.
        files: every file, ``setpoint.json`` included, sorted by path.
        aliases: names that point at this version now, sorted.
        packed_at: when this name first got this content, ISO 8601 in UTC.
    """

    name: str
    version: int
    digest: str
    manifest: ModelManifest
    files: tuple[BundleFile, ...]
    aliases: tuple[str, ...]
    packed_at: str

    @property
    def reference(self) -> str:
        """Text that ``Registry.resolve`` answers with this bundle, such as ``sentiment:3``."""
        return f"{self.name}:{self.version}"

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.size_bytes for file in self.files)

    @property
    def own_files(self) -> tuple[BundleFile, ...]:
        """Those that were packed: without the description, and without what an optimisation added."""
        added = (MANIFEST_PATH, EVIDENCE)
        return tuple(
            file for file in self.files if file.path not in added and not file.path.startswith(f"{VARIANT_FOLDER}/")
        )
