"""msgspec structs of a notebook or script, taken apart for a pickle and made again: cloudpickle loses their fields."""

from __future__ import annotations

import types
from typing import Any

import msgspec

_CONFIGURATION = (
    "frozen",
    "eq",
    "order",
    "array_like",
    "repr_omit_defaults",
    "omit_defaults",
    "forbid_unknown_fields",
    "weakref",
    "dict",
    "cache_hash",
    "gc",
    "tag",
    "tag_field",
)
_BEHAVIOUR = (types.FunctionType, property, classmethod, staticmethod)


class _Field(msgspec.Struct, frozen=True):
    """A field; ``given`` is ``default``, ``default_factory`` or empty for a required one."""

    name: str
    encoded_name: str
    annotation: Any
    keyword_only: bool
    given: str = ""
    value: Any = None


def described_struct(struct: type[msgspec.Struct]) -> tuple[Any, ...]:
    """What ``make_struct`` needs to make the class again, with its methods.

    Raises:
        TypeError: it is generic.
    """
    if getattr(struct, "__parameters__", ()):
        raise TypeError(f"{struct.__name__} is a generic struct")
    configuration = {name: getattr(struct.__struct_config__, name) for name in _CONFIGURATION}
    owners = [
        owner for owner in reversed(struct.__mro__) if isinstance(owner, type(struct)) and owner is not msgspec.Struct
    ]
    behaviour = {
        name: value
        for owner in owners
        for name, value in vars(owner).items()
        if isinstance(value, _BEHAVIOUR) and not _is_generated(value)
    }
    fields = tuple(_field(info, struct.__match_args__) for info in msgspec.structs.fields(struct))
    return struct.__name__, struct.__module__, struct.__doc__, fields, configuration, behaviour


def make_struct(
    name: str,
    module: str,
    doc: str | None,
    fields: tuple[_Field, ...],
    configuration: dict[str, Any],
    behaviour: dict[str, Any],
) -> type[msgspec.Struct]:
    """The class that ``described_struct`` took apart. Its bases are folded into it."""
    bases: tuple[type[msgspec.Struct], ...] = (msgspec.Struct,)
    namespace: dict[str, Any] = {}
    # msgspec makes a whole class keyword-only or not at all, so a mixture is a positional base with a class on top.
    parts = [part for part in (False, True) if any(field.keyword_only is part for field in fields)] or [False]
    for part in parts:
        specifications = [_specification(field) for field in fields if field.keyword_only is part]
        if part is parts[-1]:
            namespace = {**behaviour, "__doc__": doc}
        made = msgspec.defstruct(
            name, specifications, bases=bases, module=module, namespace=namespace, kw_only=part, **configuration
        )
        bases = (made,)
    return made


def _specification(field: _Field) -> tuple[str, Any, Any]:
    given = {field.given: field.value} if field.given else {}
    return field.name, field.annotation, msgspec.field(name=field.encoded_name, **given)


def _field(info: msgspec.structs.FieldInfo, positional: tuple[str, ...]) -> _Field:
    keyword_only = info.name not in positional
    if info.default is not msgspec.NODEFAULT:
        return _Field(info.name, info.encode_name, info.type, keyword_only, "default", info.default)
    if info.default_factory is not msgspec.NODEFAULT:
        return _Field(info.name, info.encode_name, info.type, keyword_only, "default_factory", info.default_factory)
    return _Field(info.name, info.encode_name, info.type, keyword_only)


def _is_generated(value: Any) -> bool:
    return getattr(value, "__module__", "").startswith("msgspec")
