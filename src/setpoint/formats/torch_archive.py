"""PyTorch's archives told apart, and read for what they could do, without torch and without running any of them.

All are zip files. A TorchScript archive holds code; a checkpoint a pickle of weights; an exported program its graph
as JSON. Loading an exported program is not harmless: torch unpickles sample inputs and constants without restraint,
evaluates the text of symbolic sizes, and calls whatever a node's target names below ``torch``. So each of these is
looked at first, and a program that has anything but plain operators and plain weights needs ``--trust``.
"""

from __future__ import annotations

import json
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from setpoint.core import InvalidConfiguration, UntrustedFile

PROGRAM, SCRIPT, CHECKPOINT = "program", "script", "checkpoint"
_ENTRIES_LIMIT = 200_000
_JSON_LIMIT_BYTES = 256 << 20
_PICKLE_LIMIT_BYTES = 16 << 20
_UNPACKED_LIMIT_BYTES = 64 << 30
_RATIO_LIMIT = 200
"""Weights hardly compress; an archive that unpacks to so many times its size is made to fill a memory."""
_NAMESPACES = "aten|prims|prim|quantized|quantized_decomposed|higher_order|torchvision|torchaudio"
_TARGET = re.compile(rf"torch\.ops\.(?:{_NAMESPACES})\.\w+(?:\.\w+)?|_operator\.\w+|math\.\w+|torch\.sym_\w+")
_WORD = re.compile(r"[A-Za-z_]\w*")
_NAMED = re.compile(r"Symbol\('[suz]\w{0,3}\d+'((?:, \w+=(?:True|False))*)\)")
_SYMBOL = re.compile(
    r"Integer|Add|Mul|Pow|Rational|Half|NegativeOne|StrictGreaterThan|StrictLessThan|GreaterThan|LessThan|Equality|Unequality"
    r"|[suz]\w{0,3}\d+|Max|Min|FloorDiv|CeilDiv|CleanDiv|Mod|PythonMod|ModularIndexing|IntTrueDiv|TruncToInt|ToFloat"
    r"|PowByNatural|Eq|Ne|Ge|Gt|Le|Lt|And|Or|Not|True|False|int_oo|oo"
)
_EXPRESSION = re.compile(r"[\w\s+\-*/%()<>=,.&|~^!]*")
_PLAIN_GLOBALS = re.compile(
    r"torch\._utils _rebuild_\w+|torch \w+Storage|torch\.storage (?:Typed|Untyped)Storage|collections OrderedDict"
    r"|torch Size|torch Tensor|torch device|torch (?:b?float|complex|u?int)\d+|torch\.nn\.parameter Parameter"
    r"|torch\.serialization _get_layout|torch\._tensor _rebuild_from_type_v2"
)


def kind_of(path: Path) -> str:
    """``program``, ``script``, ``checkpoint``, or empty for anything else."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()[:_ENTRIES_LIMIT]}
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return ""
    if "archive_format" in names or "serialized_exported_program.json" in names:
        return PROGRAM
    if "data.pkl" not in names or "version" not in names:
        return ""
    return SCRIPT if any(name.startswith("code/") for name in names) else CHECKPOINT


def check_sizes(path: Path) -> None:
    """Refuse an archive that unpacks to absurd sizes.

    Raises:
        InvalidConfiguration: it does, or it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            whole = sum(entry.file_size for entry in archive.infolist())
            for entry in archive.infolist():
                if ".." in entry.filename.split("/") or entry.filename.startswith("/"):
                    raise InvalidConfiguration(f"{path}: it has an entry {entry.filename!r} outside itself")
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise InvalidConfiguration(f"{path} cannot be read: {error}") from error
    if whole > _UNPACKED_LIMIT_BYTES or whole > _RATIO_LIMIT * max(path.stat().st_size, 1 << 16):
        raise InvalidConfiguration(
            f"{path} has {path.stat().st_size:,} bytes and would unpack to {whole:,}; a model's weights do not"
        )


def check_program(path: Path, trust: bool) -> None:
    """Refuse an exported program that could do more than compute, unless it is trusted.

    Raises:
        UntrustedFile: it could; says how.
        InvalidConfiguration: it cannot be read, or unpacks to absurd sizes.
    """
    check_sizes(path)
    if trust:
        return
    try:
        with zipfile.ZipFile(path) as archive:
            doubt = next(_doubts(archive), None)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, RecursionError) as error:
        raise InvalidConfiguration(f"{path} cannot be read as an exported program: {error}") from error
    if doubt:
        raise UntrustedFile(
            f"{path} {doubt}, which can run any code when torch loads it. Add --trust if you know where it comes from"
        )


def _doubts(archive: zipfile.ZipFile) -> Iterator[str]:
    for entry in archive.infolist():
        inner = entry.filename.partition("/")[2]
        if inner.startswith("data/aotinductor") or inner.endswith((".so", ".pkl")):
            yield f"holds {inner}"
        if inner.endswith(".pt"):
            yield from _pickled(archive, entry, inner)
        if inner.endswith(".json"):
            if entry.file_size > _JSON_LIMIT_BYTES:
                raise ValueError(f"{inner} has {entry.file_size:,} bytes")
            yield from _written(json.loads(archive.read(entry)), inner)


def _pickled(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> Iterator[str]:
    """What a checkpoint inside the archive makes besides tensors; nothing of it is unpickled."""
    if not entry.file_size:
        return
    with archive.open(entry) as file, zipfile.ZipFile(file) as inner:
        for part in inner.infolist():
            if not part.filename.endswith(".pkl"):
                continue
            if part.file_size > _PICKLE_LIMIT_BYTES:
                raise ValueError(f"{name} has a pickle of {part.file_size:,} bytes")
            for found in _globals(inner.read(part)):
                if not _PLAIN_GLOBALS.fullmatch(found):
                    yield f"holds a pickle that makes a {found.replace(' ', '.')} ({name})"


def _globals(pickled: bytes) -> Iterator[str]:
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL":
            yield str(argument)
        elif opcode.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"):
            # torch writes protocol 2, which names what it makes in one place; these do not say it where they stand.
            yield f"{opcode.name} {argument}"


def _written(value: Any, name: str) -> Iterator[str]:
    """Targets and expressions in a graph's JSON that are none of torch's own plain ones."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending += item
            continue
        if not isinstance(item, dict):
            continue
        pending += item.values()
        target = item.get("target")
        if isinstance(target, str) and "inputs" in item and not _TARGET.fullmatch(target):
            yield f"calls {target[:80]!r}"
        if item.get("use_pickle") is True:
            yield f"holds pickled weights ({name})"
        path = item.get("path_name")
        if isinstance(path, str) and path.startswith(("custom_obj", "opaque_obj")):
            yield f"holds the object {path[:80]!r}"
        expression = item.get("expr_str")
        if isinstance(expression, str) and not _is_plain(expression):
            yield f"has a size written as {expression[:80]!r}"


def _is_plain(expression: str) -> bool:
    """Whether torch, which evaluates it as Python, can make nothing of it but a formula."""
    bare = _NAMED.sub("s0", expression)
    return bool(_EXPRESSION.fullmatch(bare)) and all(_SYMBOL.fullmatch(word) for word in _WORD.findall(bare))
