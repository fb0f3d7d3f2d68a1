"""Many models at once: what ``serve`` makes of a folder of models, and of ``--all``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from setpoint.core import InvalidConfiguration, UnknownFormat
from setpoint.formats import recognise
from setpoint.registry import Registry

_ENTRIES_LIMIT = 10_000


def expanded(texts: Iterable[str], registry: Registry, *, everything: bool) -> tuple[str, ...]:
    """The models that are meant, each by a path or a reference.

    A folder that is no model itself stands for the models in it.

    Args:
        texts: as given.
        registry: of whose models all are meant, if so.
        everything: whether they are, beside those given.

    Raises:
        InvalidConfiguration: there is no model where some should be.
    """
    found = list(folders_expanded(texts))
    if everything:
        named = {text.partition(":")[0].partition("@")[0] for text in found}
        newest = registry.newest_versions()
        if not newest:
            raise InvalidConfiguration(f"--all: the registry at {registry.root} holds no model yet: setpoint pack PATH")
        found += [name for name in sorted(newest) if name not in named]
    return tuple(found)


def folders_expanded(texts: Iterable[str]) -> tuple[str, ...]:
    """The same, without a registry: each folder that is no model itself gives way to the models in it.

    Raises:
        InvalidConfiguration: there is none in it.
    """
    return tuple(model for text in texts for model in _expanded(text))


def _expanded(text: str) -> list[str]:
    folder = Path(text)
    if not folder.is_dir() or _is_model(folder):
        return [text]
    entries = sorted(entry for entry, _ in zip(folder.iterdir(), range(_ENTRIES_LIMIT), strict=False))
    models = [str(entry) for entry in entries if not entry.name.startswith(".") and _is_model(entry)]
    if not models:
        raise InvalidConfiguration(f"{text} is a folder in which nothing is recognised as a model")
    return models


def _is_model(path: Path) -> bool:
    try:
        recognise(path)
    except UnknownFormat:
        return False
    return True
