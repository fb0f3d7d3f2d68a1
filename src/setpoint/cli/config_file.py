"""Reading ``setpoint.toml``: its settings with the lines they stand on, and nothing that is not one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from setpoint.cli.config_keys import LIMITS, MODELS, NODE, Key, keys_of
from setpoint.cli.config_values import read_value, unknown
from setpoint.core import InvalidConfiguration

FILE_NAME = "setpoint.toml"
_FILE_LIMIT_BYTES = 1 << 20
# Not compiled here: every node imports this, and few read a file.
_HEADER = r"\s*\[(\[?)\s*([^\[\]]+?)\s*\]"
_ASSIGNMENT = r"\s*([A-Za-z0-9_\-\"'.\s]+?)\s*="
_LONG_TEXT = ('"""', "'''")
Place = tuple[str | int, ...]
"""Where something stands: ``("models", 0, "workers")``."""


class Given(msgspec.Struct, frozen=True):
    """A value and where it was given."""

    value: Any
    origin: str


class ConfigFile(msgspec.Struct, frozen=True):
    """What a file says.

    Attributes:
        path: of the file.
        node, limits: settings by name.
        models: the same of each model.
    """

    path: Path
    node: dict[str, Given]
    limits: dict[str, Given]
    models: tuple[dict[str, Given], ...]


def read_config(path: Path) -> ConfigFile:
    """Read and judge a file.

    Raises:
        InvalidConfiguration: it cannot be read, is no TOML, has a key that nobody knows (the nearest one is named), or
            a value of the wrong type; the message begins with file and line.
    """
    import tomllib  # 15 ms, and most nodes are started without a file

    try:
        with path.open("rb") as file:
            content = file.read(_FILE_LIMIT_BYTES + 1)
        text = content.decode()
    except UnicodeDecodeError as error:
        raise InvalidConfiguration(f"{path}: not UTF-8 text: {error}") from error
    except OSError as error:
        raise InvalidConfiguration(
            f"{path}: {error.strerror} (setpoint config schema says what stands there)"
        ) from error
    if len(content) > _FILE_LIMIT_BYTES:
        raise InvalidConfiguration(f"{path}: has more than {_FILE_LIMIT_BYTES} bytes")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+), column \d+\)", str(error))
        where = f"{path}:{place[1]}" if place else str(path)
        raise InvalidConfiguration(f"{where}: not TOML: {error}") from error
    return _Reader(path, lines_of(text)).read(document)


class _Reader:
    def __init__(self, path: Path, lines: dict[Place, int]) -> None:
        self._path = path
        self._lines = lines

    def read(self, document: dict[str, Any]) -> ConfigFile:
        for name in document:
            if name not in (NODE, LIMITS, MODELS):
                raise self._misplaced(name)
        models = document.get(MODELS, [])
        if not isinstance(models, list) or not all(isinstance(model, dict) for model in models):
            raise InvalidConfiguration(f"{self._where((MODELS,))}: models are tables of a list: [[models]] for each")
        return ConfigFile(
            self._path,
            self._section(NODE, (NODE,), document.get(NODE, {})),
            self._section(LIMITS, (LIMITS,), document.get(LIMITS, {})),
            tuple(self._section(MODELS, (MODELS, index), model) for index, model in enumerate(models)),
        )

    def _misplaced(self, name: str) -> InvalidConfiguration:
        owners = [section for section in (NODE, LIMITS, MODELS) if name in keys_of(section)]
        if owners:
            header = f"[[{MODELS}]]" if owners[0] == MODELS else f"[{owners[0]}]"
            return InvalidConfiguration(f"{self._where((name,))}: {name!r} stands below {header}, not above all tables")
        return unknown(name, (NODE, LIMITS, MODELS), self._where((name,)), "table or key")

    def _section(self, section: str, place: Place, table: Any) -> dict[str, Given]:
        if not isinstance(table, dict):
            raise InvalidConfiguration(f"{self._where(place)}: {section} is a table: [{section}]")
        found = self._table(keys_of(section), "", place, table)
        if section == MODELS and "source" not in found:
            raise InvalidConfiguration(f"{self._where(place)}: this model has no source: a path or a name")
        return found

    def _table(self, keys: dict[str, Key], prefix: str, place: Place, table: dict[str, Any]) -> dict[str, Given]:
        found: dict[str, Given] = {}
        inner = {name[len(prefix) :].partition(".")[0] for name in keys if name.startswith(prefix)}
        for name, value in table.items():
            here = (*place, name)
            key = keys.get(prefix + name)
            if key is not None:
                where = self._where(here)
                read = read_value(key, value, where, self._path.parent)
                found[key.name] = Given(self._source(read) if key.path == "models.source" else read, where)
            elif name in inner and isinstance(value, dict):
                found |= self._table(keys, f"{prefix}{name}.", here, value)
            elif name in inner:
                raise InvalidConfiguration(f"{self._where(here)}: {name} is a table, got {value!r}")
            else:
                raise unknown(name, sorted(inner), self._where(here), f"key of {prefix.rstrip('.') or place[0]}")
        return found

    def _source(self, source: str) -> str:
        """A path beside the file where it is one; what looks like a path is never a name."""
        beside = self._path.parent / Path(source).expanduser()
        stem, _, entry = source.rpartition(":")
        is_path = "/" in source or source.endswith((".py", ".onnx")) or (stem.endswith(".py") and entry.isidentifier())
        return str(beside) if is_path or beside.exists() else source

    def _where(self, place: Place) -> str:
        while place and place not in self._lines:
            place = place[:-1]
        return f"{self._path}:{self._lines[place]}" if place else str(self._path)


def lines_of(text: str) -> dict[Place, int]:
    """The line of each table and key, as far as a look at each line tells; ``tomllib`` does not say.

    Keys within inline tables have the line of theirs. What lies in a text of several lines is not taken for keys.
    """
    found: dict[Place, int] = {}
    counts: dict[str, int] = {}
    table: Place = ()
    within = ""
    for number, line in enumerate(text.splitlines(), 1):
        if within:
            within = "" if within in line else within
            continue
        if header := re.match(_HEADER, line):
            parts = _parts(header[2])
            if header[1]:
                counts[header[2]] = counts.get(header[2], -1) + 1
                table = (*parts, counts[header[2]])
            else:
                last = counts.get(str(parts[0]))
                table = parts if last is None else (parts[0], last, *parts[1:])
            found.setdefault(table, number)
            found.setdefault(table[:1], number)
        elif assignment := re.match(_ASSIGNMENT, line):
            parts = _parts(assignment[1])
            for length in range(1, len(parts) + 1):
                found.setdefault((*table, *parts[:length]), number)
            value = line[assignment.end() :]
            within = next((mark for mark in _LONG_TEXT if value.count(mark) == 1), "")
    return found


def _parts(dotted: str) -> Place:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
