"""The folder of an OCI image layout: content-addressed blobs and one index, safe for several processes and for crashes.

::

    ROOT/oci-layout  index.json  blobs/sha256/<hex>     the layout, as other OCI tools read it
    ROOT/.lock                                          held while the index is read and replaced
    ROOT/tmp/…                                          what is being written; never read
    ROOT/folders/<hex>/…                                a bundle's files under their own paths, made on demand

Bytes reach their place only by rename, after they were flushed to the disk, and blobs before the index that names them.
So a reader sees a whole registry at every moment, with no lock, and a crash leaves at most something in ``tmp``.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from setpoint.core import CorruptBundle
from setpoint.registry.bundle import BundleFile
from setpoint.registry.index import Index
from setpoint.registry.oci import LAYOUT_FILE

_CHUNK_BYTES = 1 << 20
_ABANDONED_AFTER_S = 24 * 3600


class Layout:
    """One layout on disk. Safe to use from several threads and processes; holds no open file between calls."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._tmp = root / "tmp"

    def blob_path(self, digest: str) -> Path:
        """Where the blob of that digest lies, if it does."""
        return self.root / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def read_blob(self, digest: str) -> bytes:
        """A small blob's bytes, checked against the digest.

        Raises:
            CorruptBundle: absent or changed.
        """
        try:
            content = self.blob_path(digest).read_bytes()
        except FileNotFoundError as error:
            raise CorruptBundle(f"the registry at {self.root} has lost {digest}; pack the model again") from error
        if digest_of(content) != digest:
            raise CorruptBundle(f"the registry at {self.root} holds other bytes than {digest}; pack the model again")
        return content

    def write_blob(self, content: bytes) -> str:
        """Store bytes; returns their digest."""
        digest = digest_of(content)
        if not self._has(digest):
            with self._temporary_file() as (file, temporary):
                file.write(content)
                self._settle(file, temporary, self.blob_path(digest))
        return digest

    def add_blob(self, source: Path) -> tuple[str, int]:
        """Store a file's bytes, read once and in pieces; returns their digest and size.

        An existing blob of that digest is kept when its bytes are right, and healed when they are not.
        """
        hasher = hashlib.sha256()
        size_bytes = 0
        with self._temporary_file() as (file, temporary), source.open("rb") as reader:
            while chunk := reader.read(_CHUNK_BYTES):
                hasher.update(chunk)
                file.write(chunk)
                size_bytes += len(chunk)
            digest = f"sha256:{hasher.hexdigest()}"
            if not self._has(digest):
                self._settle(file, temporary, self.blob_path(digest))
        return digest, size_bytes

    def read_index(self) -> Index:
        """The index as it is now; an empty one where nothing was stored yet.

        Raises:
            CorruptBundle: the index cannot be read.
        """
        try:
            document = (self.root / "index.json").read_bytes()
        except FileNotFoundError:
            return Index()
        return Index.from_json(document)

    def write_index(self, index: Index) -> None:
        """Replace the index. Call inside ``locked()``."""
        with self._temporary_file() as (file, temporary):
            file.write(index.to_json())
            self._settle(file, temporary, self.root / "index.json", mode=0o644)
        self._sweep()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other writer of the index out: other processes and other threads."""
        self._prepare()
        with (self.root / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed, also by a crash
            yield

    def folder(self, digest: str, files: Iterable[BundleFile]) -> Path:
        """A folder with ``files`` under their own paths, made once per bundle.

        Files are hard links to the read-only blobs where the file system allows it, else copies.

        Raises:
            CorruptBundle: a blob is absent.
        """
        files = tuple(files)
        target = self.root / "folders" / digest.removeprefix("sha256:")
        if _is_complete(target, files):
            return target
        self._prepare()
        with tempfile.TemporaryDirectory(dir=self._tmp) as made:
            content = Path(made) / "content"
            for file in files:
                place = content / file.path
                place.parent.mkdir(parents=True, exist_ok=True)
                _link_or_copy(self.blob_path(file.digest), place)
            with self.locked():  # so that of two makers one finds the other's result, never half of it
                if not _is_complete(target, files):
                    if target.exists():
                        target.rename(Path(made) / "damaged")
                    target.parent.mkdir(exist_ok=True)
                    content.rename(target)
        return target

    def _has(self, digest: str) -> bool:
        path = self.blob_path(digest)
        return path.is_file() and digest_of_file(path) == digest

    @contextlib.contextmanager
    def _temporary_file(self) -> Iterator[tuple[tempfile._TemporaryFileWrapper[bytes], Path]]:
        self._prepare()
        with tempfile.NamedTemporaryFile(dir=self._tmp, delete=False) as file:
            temporary = Path(file.name)
            try:
                yield file, temporary
            finally:
                temporary.unlink(missing_ok=True)  # gone already when it was settled

    def _settle(
        self, file: tempfile._TemporaryFileWrapper[bytes], temporary: Path, place: Path, mode: int = 0o444
    ) -> None:
        """Flush, name, and flush the name: after this the file survives a power cut, whole."""
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
        temporary.rename(place)
        folder = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _prepare(self) -> None:
        (self.root / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        if not self._tmp.is_dir():
            self._tmp.mkdir(exist_ok=True)
        marker = self.root / "oci-layout"
        if not marker.exists():
            with tempfile.NamedTemporaryFile(dir=self._tmp, delete=False) as file:
                file.write(LAYOUT_FILE)
                self._settle(file, Path(file.name), marker, mode=0o644)

    def _sweep(self) -> None:
        """Throw away what crashed writers left long ago."""
        horizon = time.time() - _ABANDONED_AFTER_S
        for entry in self._tmp.iterdir():
            with contextlib.suppress(FileNotFoundError):  # its writer was alive and has finished
                if entry.stat().st_mtime < horizon:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def digest_of(content: bytes) -> str:
    """``sha256:`` and the hex digest of bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def digest_of_file(path: Path) -> str:
    """``sha256:`` and the hex digest of a file's bytes."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _is_complete(folder: Path, files: tuple[BundleFile, ...]) -> bool:
    try:
        return all((folder / file.path).stat().st_size == file.size_bytes for file in files)
    except OSError:
        return False


def _link_or_copy(blob: Path, place: Path) -> None:
    try:
        os.link(blob, place)
    except FileNotFoundError as error:
        raise CorruptBundle(f"the registry has lost sha256:{blob.name}; pack the model again") from error
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(blob, place)
