"""From what stands in a file, a variable or a flag to a value of the setting's type. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec

from setpoint.cli.config_keys import Key, shown
from setpoint.cli.units import BYTES_BY_UNIT, SECONDS_BY_UNIT, format_seconds, parse_number
from setpoint.core import InvalidConfiguration, Objective

_SECRET_WORDS = ("token", "secret", "password")


def read_value(key: Key, given: Any, where: str, folder: Path | None = None, *, text: bool = False) -> Any:
    """A setting's value.

    Args:
        key: which setting.
        given: what was written.
        where: file and line, variable or flag, for messages.
        folder: that relative paths start from; the current one without.
        text: everything is text there, as in the environment: ``8``, ``true``, ``a=2,b=1``.

    Raises:
        InvalidConfiguration: it is not such a value; the message says where it stands and what was expected.
    """
    value = given
    try:
        if key.unit and isinstance(value, str):
            value = _with_unit(key, value)
        if isinstance(value, str) and (key.kind is Objective or Objective in get_args(key.kind)):
            return Objective.parse(value)
        if text and isinstance(value, str):
            value = _from_text(key.kind, value)
        value = msgspec.convert(value, key.kind, strict=not text, dec_hook=_hook)
    except InvalidConfiguration as error:
        raise InvalidConfiguration(f"{where}: {key.path}: {error.message}") from error
    except (msgspec.ValidationError, TypeError) as error:
        raise InvalidConfiguration(f"{where}: {key.path} expects {expected(key)}, got {given!r}") from error
    if isinstance(value, Path) and folder is not None:
        value = folder / value.expanduser()
    return value


def _hook(kind: Any, value: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, Path) and isinstance(value, str):
        return kind(value)
    if isinstance(value, kind):
        return value
    raise TypeError(f"no {kind.__name__}")


def _with_unit(key: Key, text: str) -> int | float | str:
    number = parse_number(text, BYTES_BY_UNIT if key.unit == "bytes" else SECONDS_BY_UNIT)
    if number is None:
        return text  # conversion says what was expected
    return round(number) if key.unit == "bytes" else number


def _from_text(kind: Any, text: str) -> Any:
    choices = get_args(kind) if get_origin(kind) is not dict else ()
    inner = next((choice for choice in choices if get_origin(choice) is dict), kind)
    if get_origin(inner) is dict:
        pairs = [part.partition("=") for part in text.split(",") if part.strip()]
        return {name.strip(): value.strip() for name, _, value in pairs}
    if get_origin(inner) in (list, tuple) or any(get_origin(choice) in (list, tuple) for choice in choices):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def expected(key: Key) -> str:
    """In words, what a setting takes."""
    if key.unit == "bytes":
        return "a size such as 65536 or '64MiB'"
    if key.unit == "seconds":
        return "a time such as 30, '30s' or '500ms'"
    return kind_in_words(key.kind)


def kind_in_words(kind: Any) -> str:
    """A type for people."""
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", Path: "a path"}
    if kind is Objective:
        return "an objective such as 'p99<=20ms, drop<=1%'"
    if kind in words:
        return words[kind]
    choices = [choice for choice in get_args(kind) if choice is not type(None)]
    if get_origin(kind) is dict:
        return f"a table of {kind_in_words(choices[1]).removeprefix('a ')}s by name"
    if get_origin(kind) in (list, tuple):
        return f"a list, each {kind_in_words(choices[0])}"
    return " or ".join(map(kind_in_words, choices)) or getattr(kind, "__name__", str(kind))


def shown_value(key: Key, value: Any) -> str:
    """A setting's value for people; secrets are not told."""
    if value and any(word in key.name for word in _SECRET_WORDS):
        return "(set, not shown)"
    if key.unit and isinstance(value, int | float):
        return _size(int(value)) if key.unit == "bytes" else format_seconds(value)
    return shown(value)


def _size(size_bytes: int) -> str:
    """Exactly, with a unit where it comes out even."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)


def unknown(name: str, known: Iterable[str], where: str, what: str) -> InvalidConfiguration:
    """The error for a name that nobody knows: it names the nearest one, else all."""
    import difflib

    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(names)}"
    return InvalidConfiguration(f"{where}: unknown {what} {name!r}; {hint}")
