"""Every setting of a node and its models, derived from the records that hold them.

A field that is added to ``NodeConfig``, ``Limits`` or ``ModelConfig`` is a setting without more ado: it can be written
into ``setpoint.toml``, set in the environment, and stands in the schema and in the reference. Nothing is said twice.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from setpoint.core import InvalidConfiguration, Limits, Objective
from setpoint.formats import PackOptions
from setpoint.node import ModelConfig, NodeConfig

NODE, LIMITS, MODELS = "node", "limits", "models"
ENVIRONMENT_PREFIX = {NODE: "SETPOINT_NODE_", LIMITS: "SETPOINT_LIMITS_", MODELS: "SETPOINT_MODEL_"}
"""By section. Not ``SETPOINT_PORT`` and the like: Kubernetes sets that one for every service named ``setpoint``."""
REQUIRED: Any = msgspec.UNSET


class ModelSource(msgspec.Struct, frozen=True):
    """What stands for ``ModelConfig.bundle`` and ``folder`` in a file.

    Attributes:
        source: a file or folder, beside this file where it is relative, or a model in the registry: a name, name:3,
            name:alias or name@sha256:digest.
        name: what clients call it; taken from the source without.
    """

    source: str
    name: str | None = None


class FirstUse(msgspec.Struct, frozen=True):
    """What is done before a model is served by an objective that says how much accuracy may be lost.

    Attributes:
        optimize: make and measure variants where none were for such an objective, on this hardware.
        data: ``.npz`` of examples, perhaps with labels, that variants are judged by.
        accept_made_up: without data, take agreement on made-up rows for accuracy.
        optimize_budget_s: what making and measuring variants may take.
    """

    optimize: bool = True
    data: Path | None = None
    accept_made_up: bool = False
    optimize_budget_s: float = 120.0

    def __post_init__(self) -> None:
        if not self.optimize_budget_s > 0:
            raise InvalidConfiguration(f"optimize_budget_s is above 0, got {self.optimize_budget_s:g}")


class Key(msgspec.Struct, frozen=True):
    """One setting.

    Attributes:
        section: ``node``, ``limits`` or ``models``.
        name: in its section; of a field of a field, with a dot between.
        kind: its type, as annotated in the record.
        default: ``REQUIRED`` where there is none.
        record: that has the field.
        within: name of the inner record that it belongs to, where that is absent unless something of it is said.
    """

    section: str
    name: str
    kind: Any
    default: Any
    record: type[msgspec.Struct]
    within: str = ""

    @property
    def path(self) -> str:
        """Its full name, such as ``limits.body_limit_bytes``."""
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable that sets it; for a model's setting, of every model."""
        return ENVIRONMENT_PREFIX[self.section] + self.name.replace(".", "_").upper()

    @property
    def unit(self) -> str:
        """``bytes`` or ``seconds`` where it may also be written with a unit, by its name; else empty."""
        if self.name.endswith(("_bytes", "_bytes_per_s")):
            return "bytes"
        return "seconds" if self.name.endswith("_s") else ""


_RECORDS: dict[str, tuple[tuple[type[msgspec.Struct], frozenset[str]], ...]] = {
    NODE: ((NodeConfig, frozenset({"models", "limits", "lifeline", "admin_token"})),),
    LIMITS: ((Limits, frozenset()),),
    MODELS: (
        (ModelSource, frozenset()),
        (PackOptions, frozenset({"entry"})),  # stands in the source: path.py:ClassName
        (FirstUse, frozenset()),
        (ModelConfig, frozenset({"bundle", "folder", "room_bytes", "follows"})),
    ),
}
"""By section: the records whose fields are its keys, and the fields that no user sets."""

_OTHER_DEFAULTS: dict[str, Any] = {"node.host": "127.0.0.1", "node.port": 8000, "models.threads": None}
"""Where a user who says nothing gets another value than whoever makes the record. Threads: the cores, shared."""
_OTHER_KINDS: dict[str, Any] = {"models.threads": int | None}
_LEAVES: tuple[type, ...] = (Objective,)
"""Records that are written as one text."""


@cache
def all_keys() -> dict[str, Key]:
    """Every setting by its path, in the order of the records."""
    found = (
        key
        for section, records in _RECORDS.items()
        for record, hidden in records
        for key in _keys_of(section, "", record, hidden)
    )
    return {key.path: key for key in found}


def keys_of(section: str) -> dict[str, Key]:
    """The settings of one section by their name in it."""
    return {key.name: key for key in all_keys().values() if key.section == section}


def key_named(path: str) -> Key:
    """The setting of a full name, or of a last part that only one setting has.

    Raises:
        KeyError: there is none, or several.
    """
    keys = all_keys()
    if path in keys:
        return keys[path]
    named = [key for key in keys.values() if key.name.rpartition(".")[2] == path]
    # A model's own workers go before those of an inner record that has some, too.
    found = [key for key in named if "." not in key.name] or named
    if len(found) != 1:
        raise KeyError(path)
    return found[0]


def _keys_of(
    section: str, prefix: str, record: type[msgspec.Struct], hidden: frozenset[str], given: Any = None
) -> Iterator[Key]:
    """The settings of a record; ``given`` is the one that holds where nothing is said, if there is one."""
    for field in msgspec.structs.fields(record):
        if field.name in hidden:
            continue
        name = prefix + field.name
        path = f"{section}.{name}"
        inner = inner_record(field.type)
        if inner is not None:
            yield from _keys_of(section, f"{name}.", inner, frozenset(), default_of(field))
            continue
        if not _can_be_written(field.type):
            continue
        absent = given is None or given is REQUIRED
        default = default_of(field) if absent else getattr(given, field.name)
        kind = _OTHER_KINDS.get(path, field.type)
        within = prefix.rstrip(".") if absent else ""
        yield Key(section, name, kind, _OTHER_DEFAULTS.get(path, default), record, within)


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    """A field's default, made where it is made anew each time; ``REQUIRED`` without one."""
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return REQUIRED if field.default is msgspec.NODEFAULT else field.default


def _can_be_written(kind: Any) -> bool:
    """Whether a value of this type has a form in a file; handles on something that runs have none."""
    if kind in (bool, int, float, str, Path, type(None), Ellipsis, *_LEAVES):
        return True
    return bool(typing.get_args(kind)) and all(map(_can_be_written, typing.get_args(kind)))


def inner_record(kind: Any) -> type[msgspec.Struct] | None:
    """The record that a field holds, whose fields are settings of their own; None for any other field."""
    choices = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    for choice in choices:
        if isinstance(choice, type) and issubclass(choice, msgspec.Struct) and choice not in _LEAVES:
            return choice
    return None


def records_of(section: str) -> tuple[type[msgspec.Struct], ...]:
    """The records that a section's keys come from."""
    return tuple(record for record, _ in _RECORDS[section])


def shown(value: Any) -> str:
    """A value as people write it."""
    if value is None or value is REQUIRED or value in ("", {}, ()):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ", ".join(f"{key}={shown(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    return str(value) if isinstance(value, str | int | Path | Objective) else f"{value:g}"
