"""Packing in a process of its own, so that a converter's framework, memory and crashes stay out of the caller's.

This is the caller's half; ``child.py`` is the other. One JSON document goes each way: ``Job``; ``Done`` or ``Failed``.
The child's bounds are in ``confined.py``.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from setpoint.core import ConfigurationError, InternalError, ModelManifest, SetpointError
from setpoint.formats.base import PackedModel, PackOptions
from setpoint.formats.confined import MEMORY_EXIT_CODE, TIME_LIMIT_S, command, memory_limit_bytes

_log = logging.getLogger("setpoint.formats")
_TAIL_CHARACTERS = 600


class Job(msgspec.Struct, frozen=True, tag=True):
    """What to pack, with absolute paths. ``import_paths`` are the caller's, appended to the child's; ``memory`` is the
    folder in which what is measured is remembered, empty for none."""

    source: str
    workdir: str
    trust: bool
    entry: str
    sample: str
    engine: str
    memory: str
    import_paths: tuple[str, ...]


class Done(msgspec.Struct, frozen=True, tag=True):
    """A packed model, paths as text."""

    manifest: ModelManifest
    files: dict[str, str]
    suggested_name: str
    warnings: tuple[str, ...] = ()


class Failed(msgspec.Struct, frozen=True, tag=True):
    """An error of ours by the name of its class, with its message and its other attributes."""

    error: str
    message: str
    attributes: dict[str, Any] = {}
    warnings: tuple[str, ...] = ()


def pack_isolated(source: Path, options: PackOptions, workdir: Path, memory: Path | None = None) -> PackedModel:
    """Like ``pack``, in a child process; what it measures is kept in the folder ``memory``, if there is one.

    Raises:
        SetpointError: the very class that packing raised in the child.
        ConfigurationError: the child was ended for using too much memory or time, or was killed.
    """
    job = Job(
        source=str(source.absolute()),
        workdir=str(workdir.absolute()),
        trust=options.trust,
        entry=options.entry,
        sample=str(options.sample.absolute()) if options.sample else "",
        engine=options.engine,
        memory=str(memory.absolute()) if memory else "",
        import_paths=_import_paths(source, options.trust),
    )
    try:
        child = subprocess.run(
            command(source, options.trust),
            input=msgspec.json.encode(job),
            capture_output=True,
            check=False,
            timeout=TIME_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        raise ConfigurationError(f"packing {str(source)!r} was ended: it took more than {TIME_LIMIT_S:g} s") from None
    if child.returncode:
        raise _death(source, child)
    outcome = msgspec.json.decode(child.stdout, type=Done | Failed)
    for warning in outcome.warnings:
        _log.warning("%s", warning)
    if isinstance(outcome, Failed):
        raise revive(outcome)
    files = {path: Path(place) for path, place in outcome.files.items()}
    return PackedModel(outcome.manifest, files, outcome.suggested_name)


def freeze(error: SetpointError) -> Failed:
    """An error as a record."""
    return Failed(
        type(error).__name__, str(error), {name: value for name, value in vars(error).items() if _plain(value)}
    )


def revive(failed: Failed) -> SetpointError:
    """The error that ``freeze`` was given, of the same class with the same message and attributes."""
    kind = _classes().get(failed.error, InternalError)
    # Not kind(...): the leaves' constructors differ, and the message is composed already.
    error = kind.__new__(kind, failed.message)
    Exception.__init__(error, failed.message)
    vars(error).update(failed.attributes)
    return error


def _classes(root: type[SetpointError] = SetpointError) -> dict[str, type[SetpointError]]:
    found = {root.__name__: root}
    for leaf in root.__subclasses__():
        found |= _classes(leaf)
    return found


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | None)


def _import_paths(source: Path, trust: bool) -> tuple[str, ...]:
    """Where the caller's own modules are found. A trusted pickle may name modules that lie beside it."""
    paths = [os.path.abspath(entry) for entry in sys.path]
    if trust:
        paths += [str(source.absolute().parent), os.getcwd()]
    return tuple(dict.fromkeys(paths))


def _death(source: Path, child: subprocess.CompletedProcess[bytes]) -> SetpointError:
    noise = child.stderr.decode(errors="replace").strip()
    if child.returncode == MEMORY_EXIT_CODE:
        limit_gib = memory_limit_bytes() / (1 << 30)
        return ConfigurationError(
            f"packing {str(source)!r} was ended: it wanted more memory than it may have ({limit_gib:.1f} GiB here)"
        )
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        cause = " (out of memory?)" if name == "SIGKILL" else " (the library that reads it crashed: is it damaged?)"
        return ConfigurationError(f"packing {str(source)!r} was ended by {name}{cause}")
    return InternalError(f"packing {str(source)!r} failed unexpectedly:\n{noise[-_TAIL_CHARACTERS:]}")
