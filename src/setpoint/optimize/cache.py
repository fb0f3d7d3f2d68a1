"""What was made, judged and measured before, by the digests of everything that it came from.

An interrupted run resumes by being started again: each step that was done is found here. Nothing is found that depends
on another processor, another version of a library, other data or other files: all of that is in the key.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.optimize.making import Product, decode_path, encode_path
from setpoint.optimize.staging import files_of, link

T = TypeVar("T")
CACHE_FOLDER = "optimize-cache"
"""Beside the registry's own folders."""
LIMIT_BYTES = 4 << 30
"""What the cache may hold; what was used longest ago goes first."""
_PRODUCT = "product.json"
SEARCHES = "searches"
"""Folder of what makers note of their searches, to go on from."""


class Cache:
    """Records and made files by key.

    Args:
        root: a folder, made when something is first kept; None keeps nothing.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = root

    def read(self, key: str, kind: type[T]) -> T | None:
        """The record kept under a key, or None. One that cannot be read counts as none."""
        if self._root is None:
            return None
        place = self._root / f"{key}.json"
        try:
            text = place.read_bytes()
            os.utime(place)
            return msgspec.json.decode(text, type=kind)
        except (OSError, msgspec.MsgspecError):
            return None

    def write(self, key: str, record: Any) -> None:
        """Keep a record."""
        if self._root is not None:
            self._root.mkdir(parents=True, exist_ok=True)
            _write_whole(self._root / f"{key}.json", msgspec.json.encode(record))

    def product(self, key: str, workdir: Path, model: Path) -> Product | None:
        """What a maker made before, placed into its work folder; or None. What cannot be read counts as none."""
        folder = self._root / key if self._root is not None else None
        if folder is None or not (folder / _PRODUCT).is_file():
            return None
        workdir.mkdir(parents=True, exist_ok=True)
        made = []
        try:
            os.utime(folder)
            kept = msgspec.json.decode((folder / _PRODUCT).read_bytes(), type=Product, dec_hook=decode_path)
            for one in kept.made:
                # Only names were kept; no name stands for the original itself, which only another engine runs.
                artifact = workdir / one.artifact.name if one.artifact.name else model
                if one.artifact.name:
                    for file in files_of(folder / one.artifact.name):
                        link(file, workdir / file.name)
                made.append(msgspec.structs.replace(one, artifact=artifact))
        except (OSError, msgspec.MsgspecError):
            # Damaged, or another process made room just now. Away with it, so that it is made and kept anew.
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(workdir, ignore_errors=True)
            return None
        return Product(tuple(made))

    def keep_product(self, key: str, product: Product, model: Path) -> None:
        """Keep what a maker made."""
        if self._root is None:
            return
        self._root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=self._root, prefix="new-"))
        names = []
        for one in product.made:
            own = one.artifact != model
            names.append(msgspec.structs.replace(one, artifact=Path(one.artifact.name if own else "")))
            for file in files_of(one.artifact) if own else ():
                shutil.copyfile(file, folder / file.name)
        (folder / _PRODUCT).write_bytes(msgspec.json.encode(Product(tuple(names)), enc_hook=encode_path))
        try:
            folder.rename(self._root / key)
        except OSError:  # somebody else was faster
            shutil.rmtree(folder)
        self._shrink()

    def _shrink(self) -> None:
        assert self._root is not None
        entries = sorted(self._root.iterdir(), key=lambda place: place.stat().st_mtime)
        sizes = {place: _size_bytes(place) for place in entries}
        excess = sum(sizes.values()) - LIMIT_BYTES
        for place in entries:
            if excess <= 0:
                return
            excess -= sizes[place]
            if place.is_dir():
                shutil.rmtree(place, ignore_errors=True)
            else:
                place.unlink(missing_ok=True)


def key_of(*parts: Any) -> str:
    """A key from everything that a result came from: text, numbers, records, and lists of them."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def digest_of_arrays(arrays: Iterable[NDArray[Any] | None]) -> str:
    """Of values, shapes and types."""
    hasher = hashlib.sha256()
    for array in arrays:
        if array is None:
            hasher.update(b"none")
            continue
        hasher.update(f"{array.dtype.str}{array.shape}".encode())
        whole = np.ascontiguousarray(array)
        hasher.update(repr(whole.tolist()).encode() if array.dtype.hasobject else whole.data.cast("B"))
    return hasher.hexdigest()


def digest_of_artifact(artifact: Path) -> str:
    """Of a variant's file and its weights."""
    hasher = hashlib.sha256()
    for path in files_of(artifact):
        with path.open("rb") as file:
            hasher.update(hashlib.file_digest(file, "sha256").digest())
    return hasher.hexdigest()


def _write_whole(place: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=place.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(name).rename(place)


def _size_bytes(place: Path) -> int:
    with contextlib.suppress(OSError):  # another process may be shrinking the cache too
        if place.is_dir():
            return sum(file.stat().st_size for file in place.iterdir())
        return place.stat().st_size
    return 0
