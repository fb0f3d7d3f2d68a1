"""The settings described: a JSON Schema for editors and checkers, and the tables of ``docs/configuration.md``."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec

from setpoint.cli.config_file import FILE_NAME
from setpoint.cli.config_keys import LIMITS, MODELS, NODE, REQUIRED, Key, inner_record, keys_of, records_of
from setpoint.cli.config_values import expected, shown_value
from setpoint.core import Objective

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SIZE = {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*([kKmMgG]i?)?[bB]?\s*$", "examples": ["64MiB"]}
_TIME = {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(us|ms|s|m|min|h)?\s*$", "examples": ["30s"]}
_ATTRIBUTE = re.compile(r"^(\w+(?:, \w+)*): (.*)$")
_SECTIONS = {
    NODE: "Where the node listens, and what it offers.",
    LIMITS: "What the node accepts before it says no, and how long it waits. Sizes and times may have a unit.",
    MODELS: "The models it serves, a [[models]] for each.",
}
Json = dict[str, Any]


def schema() -> Json:
    """JSON Schema (draft 2020-12) of ``setpoint.toml``; unknown keys are refused."""
    sections = {section: _table(section, keys_of(section)) for section in (NODE, LIMITS)}
    models: Json = {"type": "array", "description": _SECTIONS[MODELS], "items": _table(MODELS, keys_of(MODELS))}
    models["items"]["required"] = ["source"]
    return {
        "$schema": _DIALECT,
        "title": FILE_NAME,
        "type": "object",
        "properties": {**sections, MODELS: models},
        "additionalProperties": False,
    }


def _table(section: str, keys: dict[str, Key]) -> Json:
    properties: Json = {}
    texts = descriptions(section)
    for name, key in keys.items():
        *tables, last = name.split(".")
        place = properties
        for table in tables:
            inner = {
                "type": "object",
                "description": texts.get(table, ""),
                "properties": {},
                "additionalProperties": False,
            }
            place = place.setdefault(table, inner)["properties"]
        place[last] = _value(key) | {"description": texts.get(name, "")}
        if key.default is not REQUIRED and key.default is not None:
            place[last]["default"] = str(key.default) if isinstance(key.default, Path) else key.default
    return {
        "type": "object",
        "description": _SECTIONS[section],
        "properties": properties,
        "additionalProperties": False,
    }


def _value(key: Key) -> Json:
    choices = [choice for choice in get_args(key.kind) if choice is not type(None)]
    kind = choices[0] if choices and len(choices) < len(get_args(key.kind)) else key.kind  # TOML has no null
    if kind is Objective:
        return {"type": "string", "examples": ["p99<=20ms, drop<=1%"]}
    described = msgspec.json.schema(kind, schema_hook=lambda other: {"type": "string"})
    if key.unit:
        return {"anyOf": [described, dict(_SIZE if key.unit == "bytes" else _TIME)]}
    return described


def descriptions(section: str) -> dict[str, str]:
    """What each setting is, from the words that stand beside the field in its record."""
    texts = {name: text for record in records_of(section) for name, text in _described("", record)}
    # An inner record that says nothing itself is described by the field that holds it.
    return {name: texts.get(name) or texts.get(name.partition(".")[0], "") for name in {*texts, *keys_of(section)}}


def _described(prefix: str, record: type[msgspec.Struct]) -> Iterator[tuple[str, str]]:
    texts = {**_from_attributes(inspect.getdoc(record) or ""), **_from_strings(record)}
    for name, text in texts.items():
        yield prefix + name, text
    for field in msgspec.structs.fields(record):
        inner = inner_record(field.type)
        if inner is not None:
            yield from _described(f"{prefix}{field.name}.", inner)


def _from_attributes(doc: str) -> dict[str, str]:
    """The ``Attributes:`` of a docstring; ``host, port: …`` is said of both."""
    _, found, block = doc.partition("Attributes:\n")
    if not found:
        return {}
    block = block.partition("\n\n")[0]
    joined = re.sub(r"\n {8,}", " ", block)  # lines that go on
    texts: dict[str, str] = {}
    for line in textwrap.dedent(joined).splitlines():
        if match := _ATTRIBUTE.match(line.strip()):
            texts |= dict.fromkeys(match[1].split(", "), _sentence(match[2]))
    return texts


def _from_strings(record: type[msgspec.Struct]) -> dict[str, str]:
    """The strings that stand below fields."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(record))).body
    assert isinstance(body, ast.ClassDef)
    texts: dict[str, str] = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            texts[field.target.id] = _sentence(inspect.cleandoc(str(below.value.value)).replace("\n", " "))
    return texts


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith(".") else text + "."


def reference() -> str:
    """The settings as Markdown tables."""
    parts = []
    for section, words in _SECTIONS.items():
        header = f"[[{MODELS}]]" if section == MODELS else f"[{section}]"
        texts = descriptions(section)
        rows = [
            f"| `{name}` | {expected(key)} | {_default(key)} | {texts.get(name, '').replace('``', '`')} |"
            for name, key in keys_of(section).items()
        ]
        parts.append(
            "\n".join([f"### `{header}`\n\n{words}\n", "| key | takes | default | what |", "|---|---|---|---|", *rows])
        )
    return "\n\n".join(parts) + "\n"


def _default(key: Key) -> str:
    if key.default is REQUIRED:
        return f"required, once `{key.within}` is set" if key.within else "required"
    if key.path == f"{MODELS}.threads":
        return "the cores, shared evenly"
    text = shown_value(key, key.default)
    shown = f"`{text}`" if text else "none"
    return f"{shown}, once `{key.within}` is set" if key.within else shown
