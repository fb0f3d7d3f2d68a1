"""Where variants are put while they are judged and measured, and how they become the bundle's next version."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from setpoint.core import Profile, Variant
from setpoint.formats import PackedModel
from setpoint.optimize.makers import Made
from setpoint.optimize.study import Entry, Study
from setpoint.registry import EVIDENCE, VARIANT_FOLDER, Bundle


class Staging:
    """The bundle's own files beside room for variants.

    Args:
        bundle: whose first variant is the original.
        source: folder with the bundle's files.
        workdir: an empty folder; lives until the registry has copied what is in it.

    Attributes:
        folder: the bundle's files under their own paths, and adopted variants under ``variants/``.
        model: the original's artifact for makers, in plain files: the registry's are hard links, which onnx takes for
            an attack.
    """

    def __init__(self, bundle: Bundle, source: Path, workdir: Path) -> None:
        self._bundle = bundle
        self._source = source
        self._workdir = workdir
        self.folder = workdir / "staging"
        copies = workdir / "original"
        for path in self._own_files():
            for folder in (self.folder, copies):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
            link(source / path, self.folder / path)
            shutil.copyfile(source / path, copies / path)
        self.model = copies / bundle.manifest.variants[0].artifact

    def original(self) -> Entry:
        """The original as an entry: by definition all of its accuracy is left."""
        variant = msgspec.structs.replace(self._bundle.manifest.variants[0], accuracy=1.0)
        return Entry(variant, "the original", _size_bytes(self.model))

    def adopt(self, made: Made) -> Entry:
        """Place what was made among the bundle's files: the artifact, and its weights where they lie beside it."""
        path = self._bundle.manifest.variants[0].artifact
        if made.artifact != self.model:
            folder = self.folder / VARIANT_FOLDER
            folder.mkdir(exist_ok=True)
            path = f"{VARIANT_FOLDER}/{made.artifact.name}"
            for file in files_of(made.artifact):
                link(file, folder / file.name)
        variant = Variant(made.name, made.engine, path, made.entry, made.precision, accuracy=0.0)
        return Entry(variant, made.note, _size_bytes(made.artifact), same=made.same)

    def own_digests(self) -> list[tuple[str, str]]:
        """Path and digest of each of the bundle's own files."""
        return [(file.path, file.digest) for file in self._bundle.own_files]

    def packed(self, study: Study) -> PackedModel:
        """The bundle's next version: the original's files, the kept variants', profiles and evidence."""
        kept = sorted((entry for entry in study.entries if entry.kept), key=lambda entry: -entry.stored.accuracy)
        variants = tuple(entry.stored for entry in kept)
        manifest = msgspec.structs.replace(self._bundle.manifest, variants=variants, profiles=tuple(_profiles(kept)))
        files = {path: self._source / path for path in self._own_files()}
        for variant in variants:
            for file in files_of(self.folder / variant.artifact):
                files[str(file.relative_to(self.folder))] = file
        evidence = self._workdir / EVIDENCE
        evidence.write_bytes(msgspec.json.format(msgspec.json.encode(study), indent=1))
        return PackedModel(manifest, files | {EVIDENCE: evidence}, self._bundle.name)

    def _own_files(self) -> list[str]:
        return [file.path for file in self._bundle.own_files]


def link(file: Path, place: Path) -> None:
    """The same file under another path, as the registry does it: OpenVINO refuses weights behind a symbolic link."""
    try:
        os.link(file, place)
    except OSError:  # another file system
        shutil.copyfile(file, place)


def files_of(artifact: Path) -> list[Path]:
    """An artifact, and the file with its weights if there is one beside it."""
    weights = artifact.with_suffix(".weights")
    return [artifact, weights] if weights.exists() else [artifact]


def _size_bytes(artifact: Path) -> int:
    return sum(file.stat().st_size for file in files_of(artifact))


def _profiles(entries: Sequence[Entry]) -> Iterator[Profile]:
    for entry in entries:
        for measured in entry.measured:
            if measured.profile is not None:
                yield measured.profile
