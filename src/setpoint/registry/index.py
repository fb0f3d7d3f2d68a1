"""The registry's index: which names, versions and aliases point at which bundle. Pure: an index in, a new index out.

It is the ``index.json`` of an OCI image layout. Each tag is a descriptor of its own, named by the standard annotation::

    sentiment:1         → sha256:aaa   created 2026-11-22T05:00:00Z
    sentiment:2         → sha256:bbb   created 2026-11-23T09:30:00Z
    sentiment:champion  → sha256:aaa

so that other OCI tools read and copy what lies here. Entries of other tools are kept as they are and not looked at.
"""

from __future__ import annotations

import difflib
import functools

import msgspec

from setpoint.core import BundleNotFound, CorruptBundle, InvalidConfiguration
from setpoint.registry.oci import (
    ANNOTATION_CREATED,
    ANNOTATION_REF,
    ARTIFACT_MODEL,
    MEDIA_INDEX,
    MEDIA_MANIFEST,
    Descriptor,
)
from setpoint.registry.reference import Reference, check_alias

_LAST_VERSION = "setpoint.last-version/"
"""Annotation of the index: the highest version a name ever had, so that no number is given twice."""


class Index(msgspec.Struct, frozen=True, rename="camel"):
    """The document, one instance per state of the registry."""

    schema_version: int = 2
    media_type: str = MEDIA_INDEX
    manifests: tuple[Descriptor, ...] = ()
    annotations: dict[str, str] = {}

    @classmethod
    def from_json(cls, document: bytes) -> Index:
        """Read ``to_json``'s bytes, or another tool's index.

        Raises:
            CorruptBundle: not an OCI index.
        """
        try:
            return msgspec.json.decode(document, type=cls)
        except msgspec.MsgspecError as error:
            raise CorruptBundle(f"the registry's index.json cannot be read: {error}") from error

    def to_json(self) -> bytes:
        """The bytes of ``index.json``."""
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=1)

    def names(self) -> tuple[str, ...]:
        """Every name that has a version, sorted."""
        return tuple(sorted({reference.name for reference, _ in self._tags() if reference.version}))

    def versions(self, name: str) -> dict[int, Descriptor]:
        """The versions of a name, ascending; empty when there is no such name."""
        found = {tag.version: entry for tag, entry in self._tags() if tag.name == name and tag.version}
        return dict(sorted(found.items()))

    def newest_versions(self) -> dict[str, int]:
        """The newest version of every name."""
        newest: dict[str, int] = {}
        for reference, _ in self._tags():
            if reference.version:
                newest[reference.name] = max(reference.version, newest.get(reference.name, 0))
        return newest

    def aliases(self, name: str) -> dict[str, str]:
        """The aliases of a name and the digests they point at."""
        return {tag.alias: entry.digest for tag, entry in self._tags() if tag.name == name and tag.alias}

    def find(self, reference: Reference) -> int:
        """The version that ``reference`` means.

        Raises:
            BundleNotFound: no such name, version, alias or digest; says what there is.
        """
        name, versions = reference.name, self.versions(reference.name)
        if not versions:
            raise BundleNotFound(_unknown_name(name, self.names()))
        if reference.alias:
            digest = self.aliases(name).get(reference.alias)
            if digest is None:
                raise BundleNotFound(_unknown(f"alias {reference.alias!r}", name, sorted(self.aliases(name))))
            return self.version_of(name, digest)
        if reference.digest:
            prefix = f"sha256:{reference.digest}"
            matches = [version for version, entry in versions.items() if entry.digest.startswith(prefix)]
            if len(matches) != 1:
                problem = "no version" if not matches else f"versions {matches}"
                raise BundleNotFound(f"model {name!r} has {problem} with a digest that starts with {prefix}")
            return matches[0]
        if reference.version and reference.version not in versions:
            raise BundleNotFound(_unknown(f"version {reference.version}", name, [str(known) for known in versions]))
        return reference.version or max(versions)

    def version_of(self, name: str, digest: str) -> int:
        """The version of ``name`` that has this digest; 0 when none has."""
        return next((version for version, entry in self.versions(name).items() if entry.digest == digest), 0)

    def with_version(self, name: str, digest: str, size_bytes: int, packed_at: str) -> tuple[Index, int, bool]:
        """Give ``digest`` a version of ``name``: the one it has, or the next.

        Returns:
            the new index, the version, and whether it is new.
        """
        if known := self.version_of(name, digest):
            return self, known, False
        key = _LAST_VERSION + name
        version = max([int(self.annotations.get(key, "0")), *self.versions(name)]) + 1
        entry = _entry(f"{name}:{version}", digest, size_bytes, {ANNOTATION_CREATED: packed_at})
        annotations = {**self.annotations, key: str(version)}
        return Index(manifests=(*self.manifests, entry), annotations=annotations), version, True

    def with_alias(self, name: str, alias: str, version: int) -> Index:
        """Point ``name:alias`` at a version, away from where it pointed.

        Raises:
            BundleNotFound: no such name or version.
            InvalidConfiguration: not a possible alias.
        """
        check_alias(alias)
        entry = self.versions(name)[self.find(Reference(name, version=version))]
        kept = self._without_tag(f"{name}:{alias}")
        moved = _entry(f"{name}:{alias}", entry.digest, entry.size, {})
        return Index(manifests=(*kept, moved), annotations=self.annotations)

    def without_alias(self, name: str, alias: str) -> Index:
        """Forget ``name:alias``.

        Raises:
            BundleNotFound: there is no such alias.
        """
        self.find(Reference(name, alias=alias))
        return Index(manifests=self._without_tag(f"{name}:{alias}"), annotations=self.annotations)

    def _tags(self) -> list[tuple[Reference, Descriptor]]:
        tags = ((_tag(entry.annotations.get(ANNOTATION_REF, "")), entry) for entry in self.manifests)
        return [(tag, entry) for tag, entry in tags if tag is not None]

    def _without_tag(self, tag: str) -> tuple[Descriptor, ...]:
        return tuple(entry for entry in self.manifests if entry.annotations.get(ANNOTATION_REF) != tag)


@functools.lru_cache(maxsize=4096)
def _tag(text: str) -> Reference | None:
    try:
        return Reference.parse(text)
    except InvalidConfiguration:
        return None  # another tool's tag, which need not follow our grammar


def _entry(tag: str, digest: str, size_bytes: int, annotations: dict[str, str]) -> Descriptor:
    return Descriptor(MEDIA_MANIFEST, digest, size_bytes, ARTIFACT_MODEL, {ANNOTATION_REF: tag, **annotations})


def _unknown_name(name: str, names: tuple[str, ...]) -> str:
    if not names:
        return f"there is no model {name!r}: the registry is empty; pack one with: setpoint pack PATH"
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(names[:8])}"
    return f"there is no model {name!r} in the registry; {hint}"


def _unknown(what: str, name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(what.split()[-1].strip("'"), known, n=1, cutoff=0.5)
    hint = f"did you mean {name}:{close[0]}?" if close else f"it has: {', '.join(known[-8:]) or 'none'}"
    return f"model {name!r} has no {what}; {hint}"
