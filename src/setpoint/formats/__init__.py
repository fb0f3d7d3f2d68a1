"""What is this file, and how does it become a model's files and manifest. One format to a module.

Beyond the built-in ones, any installed distribution may offer a format through the entry points ``setpoint.formats``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from setpoint.core import UnknownFormat
from setpoint.formats.base import Format, PackedModel, PackOptions
from setpoint.formats.isolated import pack_isolated

ENTRY_POINT_GROUP = "setpoint.formats"

_BUILT_IN = (
    # In the order asked: a folder with a Python model may hold an ONNX file too, and a pickle says least about itself.
    ("setpoint.formats.python_class", "PythonClassFormat"),
    ("setpoint.formats.onnx", "OnnxFormat"),
    ("setpoint.formats.sklearn", "SklearnFormat"),
)


def write_function(function: Callable[..., Any], folder: Path) -> Path:
    """Write an annotated function as a packable source into ``folder``; see ``python_function.write_function``."""
    # Imported here: the serving process imports this room and needs nothing of the user's classes.
    from setpoint.formats.python_function import write_function as write

    return write(function, folder)


def formats() -> Iterator[Format]:
    """Every format there is, built-in ones first. Cheap: heavy libraries load only when a format packs."""
    for module, name in _BUILT_IN:
        yield getattr(importlib.import_module(module), name)()
    for entry_point in sorted(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: entry.name):
        yield entry_point.load()()


def recognise(source: Path) -> Format:
    """The format of ``source``, judged by its content.

    Raises:
        UnknownFormat: there is no such file, or no format says yes; lists the formats.
    """
    if not source.exists():
        raise UnknownFormat(f"there is no file or folder {str(source)!r}")
    asked = []
    for candidate in formats():
        if candidate.recognises(source):
            return candidate
        asked.append(candidate.name)
    raise UnknownFormat(
        f"{str(source)!r} is of no format that Setpoint reads: {', '.join(asked)}."
        " Wrap it in a Python class (a file that defines a setpoint.Model) to serve anything else"
    )


def pack(source: Path, options: PackOptions, workdir: Path) -> PackedModel:
    """Recognise ``source`` and pack it, in this process. ``pack_isolated`` keeps frameworks out of the caller's.

    Raises:
        ConfigurationError: any leaf of it; the message says what to do.
    """
    return recognise(source).pack(source, options, workdir)


__all__ = ["Format", "PackOptions", "PackedModel", "formats", "pack", "pack_isolated", "recognise", "write_function"]
