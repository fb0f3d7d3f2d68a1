"""From what a person types to a bundle: a path is packed, a name is looked up."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from setpoint.core import BundleNotFound, InvalidConfiguration
from setpoint.formats import PackOptions, labelled, pack_isolated
from setpoint.registry.bundle import Bundle
from setpoint.registry.reference import check_name, name_from
from setpoint.registry.registry import Registry

MEASURED_FOLDER = "measured"
"""Of the registry: what packing measured on this machine."""


def pack_source(
    source: str | Path, *, name: str | None = None, options: PackOptions | None = None, registry: Registry
) -> tuple[Bundle, bool]:
    """Pack a file or folder in a process of its own and store it.

    Args:
        source: a path, or ``path.py:ClassName`` to say which class of a Python file.
        name: to store it under; taken from the source without.
        options: what the user adds; ``path.py:ClassName`` sets ``entry``.
        registry: to store it in.

    Returns:
        the bundle, and False when the name already had exactly this content.

    Raises:
        ConfigurationError: any leaf of it; the message says what to do.
    """
    path, entry = split_entry(source)
    options = options or PackOptions()
    if entry:
        options = msgspec.structs.replace(options, entry=entry)
    if name is not None:
        check_name(name)  # before the work, not after it
    with tempfile.TemporaryDirectory(prefix="setpoint-pack-") as workdir:
        packed = pack_isolated(path, options, Path(workdir), registry.root / MEASURED_FOLDER)
        if options.labels is not None:
            packed = labelled(packed, options.labels)
        return registry.add(packed, name_from(packed.suggested_name) if name is None else name)


def open_model(text: str, *, name: str | None = None, options: PackOptions | None = None, registry: Registry) -> Bundle:
    """The bundle of a path (packed now) or of a registry reference.

    Raises:
        BundleNotFound: there is neither such a path nor such a model.
        ConfigurationError: packing failed; the message says what to do.
    """
    if split_entry(text)[0].exists():
        return pack_source(text, name=name, options=options, registry=registry)[0]
    try:
        return registry.resolve(text)
    except InvalidConfiguration:
        raise BundleNotFound(f"{text!r} is neither a file or folder here nor the name of a packed model") from None
    except BundleNotFound as error:
        raise BundleNotFound(f"there is no file or folder {text!r} here, and {error}") from None


def split_entry(source: str | Path) -> tuple[Path, str]:
    """``path.py:ClassName`` as path and class name; the name is empty when there is none."""
    path = Path(source)
    stem, _, entry = str(source).rpartition(":")
    if not path.exists() and entry.isidentifier() and (stem.endswith(".py") or Path(stem).is_dir()) and stem:
        return Path(stem), entry
    return path, ""
