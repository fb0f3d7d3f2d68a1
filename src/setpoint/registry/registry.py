"""Registry: bundles by name, version, alias and digest, over one OCI image layout on disk."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from pathlib import Path

from setpoint.core import CorruptBundle, InvalidConfiguration, ModelManifest
from setpoint.formats import PackedModel
from setpoint.registry import oci
from setpoint.registry.bundle import MANIFEST_PATH, Bundle, BundleFile
from setpoint.registry.index import Index
from setpoint.registry.layout import Layout, digest_of, digest_of_file
from setpoint.registry.oci import ANNOTATION_CREATED, Descriptor
from setpoint.registry.reference import Reference, check_name

HOME_VARIABLE = "SETPOINT_HOME"


class Registry:
    """The models of one folder. Safe to use from several threads and processes at once.

    Args:
        root: of the OCI image layout; made when the first bundle is added.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._layout = Layout(self.root)

    @classmethod
    def default(cls) -> Registry:
        """The user's own: ``$SETPOINT_HOME``, else ``~/.local/share/setpoint``."""
        home = os.environ.get(HOME_VARIABLE)
        return cls(Path(home) if home else Path.home() / ".local" / "share" / "setpoint")

    def add(self, packed: PackedModel, name: str) -> tuple[Bundle, bool]:
        """Store a packed model and give it the next version of ``name``.

        Returns:
            the bundle, and False when ``name`` already had exactly this content: it keeps its version then.

        Raises:
            InvalidConfiguration: the name, or a path among the files, is not possible.
        """
        check_name(name)
        files = self._add_files(packed)
        config = oci.config_json(packed.manifest, files)
        config_entry = Descriptor(oci.MEDIA_CONFIG, self._layout.write_blob(config), len(config))
        document = oci.manifest_json(config_entry, files)
        digest = self._layout.write_blob(document)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        with self._layout.locked():
            index, version, created = self._layout.read_index().with_version(name, digest, len(document), now)
            if created:
                self._layout.write_index(index)
        return self._bundle(index, name, version), created

    def resolve(self, reference: str) -> Bundle:
        """The bundle that ``name``, ``name:3``, ``name:champion`` or ``name@sha256:…`` means; a bare name its newest.

        Raises:
            InvalidConfiguration: the text is not a reference.
            BundleNotFound: nothing answers to it; suggests close names.
            CorruptBundle: its description was damaged.
        """
        index, parsed = self._layout.read_index(), Reference.parse(reference)
        return self._bundle(index, parsed.name, index.find(parsed))

    def list(self) -> list[Bundle]:
        """Every version of every model, by name and version. What other tools put into the layout is left out."""
        index = self._layout.read_index()
        return [
            self._bundle(index, name, version)
            for name in index.names()
            for version, entry in index.versions(name).items()
            if self._is_ours(entry)
        ]

    def versions(self, name: str) -> Iterator[Bundle]:
        """Every version of one model, the newest first; each is read when it is asked for.

        Raises:
            CorruptBundle: its description was damaged.
        """
        index = self._layout.read_index()
        return (self._bundle(index, name, version) for version in reversed(index.versions(name)))

    def newest_versions(self) -> dict[str, int]:
        """The newest version of every name; reads one file, whatever there is."""
        return self._layout.read_index().newest_versions()

    def set_alias(self, name: str, alias: str, version: int) -> Bundle:
        """Point ``name:alias`` at a version, atomically; returns the bundle it points at now.

        Raises:
            BundleNotFound: no such name or version.
            InvalidConfiguration: not a possible alias.
        """
        check_name(name)
        with self._layout.locked():
            index = self._layout.read_index().with_alias(name, alias, version)
            self._layout.write_index(index)
        return self._bundle(index, name, version)

    def remove_alias(self, name: str, alias: str) -> None:
        """Forget ``name:alias``.

        Raises:
            BundleNotFound: there is no such alias.
        """
        check_name(name)
        with self._layout.locked():
            self._layout.write_index(self._layout.read_index().without_alias(name, alias))

    def folder(self, bundle: Bundle) -> Path:
        """A folder with the bundle's files under their own paths, for engines to load from. Read-only; made once.

        Raises:
            CorruptBundle: a file's bytes are gone.
        """
        return self._layout.folder(bundle.digest, bundle.files)

    def verify(self, bundle: Bundle) -> None:
        """Read every byte of a bundle and compare it with its digest.

        Raises:
            CorruptBundle: names the first file whose bytes are gone or changed.
        """
        self._layout.read_blob(bundle.digest)
        for file in bundle.files:
            blob = self._layout.blob_path(file.digest)
            if not blob.is_file():
                raise CorruptBundle(f"{bundle.reference}: {file.path} is gone ({file.digest}); pack the model again")
            found = digest_of_file(blob)
            if found != file.digest:
                raise CorruptBundle(
                    f"{bundle.reference}: {file.path} was changed: expected {file.digest}, found {found};"
                    " pack the model again"
                )

    def _add_files(self, packed: PackedModel) -> tuple[BundleFile, ...]:
        description = packed.manifest.to_json()
        if MANIFEST_PATH in packed.files:
            raise InvalidConfiguration(
                f"a model cannot hold a file called {MANIFEST_PATH}: that name is the bundle's own"
            )
        self._layout.write_blob(description)
        files = [BundleFile(MANIFEST_PATH, digest_of(description), len(description))]
        for path, source in packed.files.items():
            if not oci.is_confined(path):
                raise InvalidConfiguration(f"file path {path!r} leaves the bundle; expected a relative path without ..")
            files.append(BundleFile(path, *self._layout.add_blob(source)))
        missing = {variant.artifact for variant in packed.manifest.variants} - set(packed.files)
        if missing:
            raise InvalidConfiguration(f"the manifest names {', '.join(sorted(missing))}, which is not among the files")
        return tuple(sorted(files, key=lambda file: file.path))

    def _bundle(self, index: Index, name: str, version: int) -> Bundle:
        entry = index.versions(name)[version]
        digest = entry.digest
        try:
            files = oci.files_of(oci.parse_manifest(self._layout.read_blob(digest), digest), digest)
            description = next(file for file in files if file.path == MANIFEST_PATH)
            manifest = ModelManifest.from_json(self._layout.read_blob(description.digest))
        except (CorruptBundle, InvalidConfiguration) as error:
            raise CorruptBundle(f"{name}:{version}: {error}") from error
        aliases = tuple(sorted(alias for alias, target in index.aliases(name).items() if target == digest))
        return Bundle(name, version, digest, manifest, files, aliases, entry.annotations.get(ANNOTATION_CREATED, ""))

    def _is_ours(self, entry: Descriptor) -> bool:
        try:
            oci.files_of(oci.parse_manifest(self._layout.read_blob(entry.digest), entry.digest), entry.digest)
        except CorruptBundle:
            return entry.artifact_type == oci.ARTIFACT_MODEL  # ours and damaged: say so rather than hide it
        return True
