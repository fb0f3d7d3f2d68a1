"""System shared memory: regions that clients on this host register, and what requests read and write there.

Nothing is mapped. A client may shrink its region whenever it likes, and touching what is gone would kill the process
that mapped it; reading a file that has become shorter is an answer. It also makes the copy that has to be made anyway:
tensors must not change while they wait.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import msgspec

from setpoint.core import Forbidden, InvalidRequest, NotFound, RequestTooLarge
from setpoint.wire import SHARED_MEMORY_OFF, Extent, Raw

REGION_LIMIT = 256
"""Regions at once: each holds a descriptor open."""
_FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is on Linux, shm_open(3)
_NAME = re.compile(r"[^/\0]{1,255}")
_SHOWN_CHARACTERS = 80


class RegionStatus(msgspec.Struct, frozen=True):
    """A region as its status says it.

    Attributes:
        name: that requests use.
        key: of the shared memory object, as ``shm_open`` takes it.
        offset: bytes from the object's begin to the region's.
        byte_size: of the region.
    """

    name: str
    key: str
    offset: int
    byte_size: int


class _Region:
    """An open shared memory object; closed when nobody refers to it, a request that still writes to it included."""

    def __init__(self, status: RegionStatus, descriptor: int) -> None:
        self.status = status
        self._descriptor = descriptor

    def __del__(self) -> None:
        os.close(self._descriptor)

    def read(self, extent: Extent) -> memoryview:
        raw = os.pread(self._descriptor, extent.size_bytes, self.status.offset + extent.offset)
        if len(raw) != extent.size_bytes:
            raise self._shrunk()
        return memoryview(raw)

    def write(self, extent: Extent, raw: Raw) -> None:
        start = self.status.offset + extent.offset
        if os.fstat(self._descriptor).st_size < start + len(raw):
            raise self._shrunk()
        try:
            written = os.pwrite(self._descriptor, raw, start)
        except OSError as error:
            raise RequestTooLarge(
                f"shared memory region {self.status.name!r} cannot be written: {error.strerror}"
            ) from error
        if written != len(raw):
            raise RequestTooLarge(f"shared memory region {self.status.name!r} has no room: {_FOLDER} is full")

    def _shrunk(self) -> InvalidRequest:
        return InvalidRequest(
            f"shared memory region {self.status.name!r} has become smaller than the {self.status.byte_size} bytes that "
            "were registered"
        )


class _Place:
    def __init__(self, region: _Region, extent: Extent) -> None:
        self._region = region
        self._extent = extent

    def write(self, raw: Raw) -> None:
        extent = self._extent
        if len(raw) > extent.size_bytes:
            raise InvalidRequest(
                f"an output has {len(raw)} bytes, its shared_memory_byte_size in region {extent.region!r} is "
                f"{extent.size_bytes}"
            )
        self._region.write(extent, raw)


class Regions:
    """The regions of one node, by their names.

    Attributes:
        enabled: whether clients may register any.
    """

    def __init__(self, enabled: bool, tensor_limit_bytes: int) -> None:
        """None is registered yet.

        Args:
            enabled: whether the node was told to share memory: who reaches its port can then read and write all
                shared memory of the node's user.
            tensor_limit_bytes: of one tensor in a request.
        """
        self.enabled = enabled
        self._tensor_limit_bytes = tensor_limit_bytes
        self._regions: dict[str, _Region] = {}

    # --- registering ---------------------------------------------------------------------------------------------

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Open a shared memory object.

        Raises:
            Forbidden: the node does not share memory.
            InvalidRequest: the name is taken, there is no such object, or it is smaller than that.
            RequestTooLarge: too many are registered.
        """
        self._check_enabled()
        if not _NAME.fullmatch(name):
            raise InvalidRequest("a shared memory region's name has 1 to 255 characters, without slashes")
        if name in self._regions:
            raise InvalidRequest(f"shared memory region {_shown(name)} is registered already; unregister it first")
        if len(self._regions) >= REGION_LIMIT:
            raise RequestTooLarge(f"{REGION_LIMIT} shared memory regions are registered, which is the limit")
        if offset < 0 or byte_size < 1:
            raise InvalidRequest(
                f"shared memory region {_shown(name)}: expected an offset from 0 and a byte_size from 1, got {offset} "
                f"and {byte_size}"
            )
        descriptor = _open(key)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise InvalidRequest(f"{_shown(key)} is no shared memory object")
            if found.st_size < offset + byte_size:
                raise InvalidRequest(
                    f"shared memory object {_shown(key)} has {found.st_size} bytes, too few for {byte_size} at {offset}"
                )
        except BaseException:
            os.close(descriptor)
            raise
        self._regions[name] = _Region(RegionStatus(name, key, offset, byte_size), descriptor)

    def unregister(self, name: str) -> None:
        """Forget a region, or all of them where the name is empty; nothing where there is none.

        Raises:
            Forbidden: the node does not share memory.
        """
        self._check_enabled()
        if name:
            self._regions.pop(name, None)
        else:
            self._regions.clear()

    def status(self, name: str) -> list[RegionStatus]:
        """A region, or all of them where the name is empty.

        Raises:
            Forbidden: the node does not share memory.
            NotFound: none is called so.
        """
        self._check_enabled()
        if not name:
            return [region.status for region in self._regions.values()]
        region = self._regions.get(name)
        if region is None:
            raise NotFound(f"no shared memory region is called {_shown(name)}")
        return [region.status]

    def _check_enabled(self) -> None:
        if not self.enabled:
            raise Forbidden(SHARED_MEMORY_OFF)

    # --- for requests --------------------------------------------------------------------------------------------

    def read(self, extent: Extent) -> memoryview:
        """A copy of a part of a region; see ``wire.SharedMemory``."""
        region = self._region(extent)
        if extent.size_bytes > self._tensor_limit_bytes:
            raise RequestTooLarge(
                f"the tensor in shared memory region {extent.region!r} has {extent.size_bytes} bytes, more than the "
                f"limit of {self._tensor_limit_bytes} (--max-body)"
            )
        return region.read(extent)

    def place(self, extent: Extent) -> _Place:
        """A part of a region to be written later; see ``wire.SharedMemory``."""
        return _Place(self._region(extent), extent)

    def _region(self, extent: Extent) -> _Region:
        if not self.enabled:
            raise InvalidRequest(SHARED_MEMORY_OFF)
        region = self._regions.get(extent.region)
        if region is None:
            raise InvalidRequest(f"no shared memory region is called {_shown(extent.region)}; register it first")
        whole_bytes = region.status.byte_size
        if extent.offset < 0 or extent.size_bytes < 0 or extent.offset + extent.size_bytes > whole_bytes:
            raise InvalidRequest(
                f"shared memory region {_shown(extent.region)} has {whole_bytes} bytes; {extent.size_bytes} at "
                f"{extent.offset} are not within it"
            )
        return region


def _open(key: str) -> int:
    name = key.removeprefix("/")
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise InvalidRequest(f"{_shown(key)} is no key of a shared memory object: one slash at most, in front")
    try:
        # Not following links, and not waiting for the other end of what turns out to be a pipe.
        return os.open(_FOLDER / name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
        raise InvalidRequest(f"shared memory object {_shown(key)} cannot be opened: {reason}") from error


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…")
