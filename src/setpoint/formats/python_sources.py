"""Python source read without running it: does it define a model, what does it import, which files come along."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from setpoint.core import InvalidConfiguration

_SIZE_LIMIT_BYTES = 4 << 20
_FILES_IN_FOLDER_LIMIT = 1000
_IMPORTS_SETPOINT = re.compile(rb"^[ \t]*(?:import|from)[ \t]+setpoint\b", re.MULTILINE)
_MAKES_MODELS = {"Model", "model_from_function"}
_CACHES = {"__pycache__", "node_modules", "site-packages"}
_COMPILED = {".pyc", ".pyo"}


class Imports(msgspec.Struct, frozen=True):
    """What modules import, recursively.

    Attributes:
        local: paths inside the folder of the modules found there, sorted.
        outside: top-level names of all others.
    """

    local: tuple[str, ...]
    outside: frozenset[str]


def defines_model(path: Path) -> bool:
    """Whether a ``.py`` file defines a subclass of ``setpoint.Model``.

    One that imports setpoint and cannot be parsed counts too: packing it tells the line with the mistake, which says
    more than that no format knows the file.
    """
    if path.suffix != ".py" or not path.is_file() or path.stat().st_size > _SIZE_LIMIT_BYTES:
        return False
    content = path.read_bytes()
    if not _IMPORTS_SETPOINT.search(content):
        return False
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return True
    ours = _names_from_setpoint(tree)
    return any(isinstance(node, ast.ClassDef) and _is_model(node, ours) for node in ast.walk(tree))


def models_in(folder: Path) -> list[Path]:
    """The Python files at the top of a folder that define models, sorted."""
    if not folder.is_dir():
        return []
    names = sorted(entry.name for entry, _ in zip(folder.iterdir(), range(_FILES_IN_FOLDER_LIMIT), strict=False))
    return [folder / name for name in names if defines_model(folder / name)]


def imports_of(start: Path, folder: Path) -> Imports:
    """Follow the imports of ``start`` through the modules that lie in ``folder``.

    Raises:
        InvalidConfiguration: one of them cannot be parsed.
    """
    pending, local, outside = [start], {}, set()
    while pending:
        path = pending.pop()
        local[_inside(path, folder)] = path
        for module in _imported(path, folder):
            found = list(_files_of(module, folder))
            if not found:
                outside.add(module.partition(".")[0])
            pending += [file for file in found if _inside(file, folder) not in local]
    return Imports(tuple(sorted(local)), frozenset(outside))


def everything_in(folder: Path) -> dict[str, Path]:
    """Every file below a folder but caches and hidden ones: path inside it → file.

    Raises:
        InvalidConfiguration: a symbolic link leads out of the folder.
    """
    found: dict[str, Path] = {}
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.name in _CACHES or entry.suffix in _COMPILED:
            continue
        if entry.is_dir():
            if not entry.is_symlink() and not (entry / "pyvenv.cfg").exists() and entry.suffix != ".egg-info":
                found |= {f"{entry.name}/{path}": file for path, file in everything_in(entry).items()}
        elif entry.is_file():
            if not entry.resolve().is_relative_to(folder.resolve()):
                raise InvalidConfiguration(f"{entry} is a link out of its folder; copy the file there")
            found[entry.name] = entry
    return found


def _names_from_setpoint(tree: ast.Module) -> set[str]:
    """Dotted names that mean something of setpoint in this file: ``sp.Model``, ``Model``, ``M`` for ``Model as M``."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.asname or alias.name for alias in node.names if alias.name.partition(".")[0] == "setpoint"]
            names |= {f"{module}.{name}" for module in modules for name in (*_MAKES_MODELS, "endpoint")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "setpoint":
            given = {
                alias.asname or alias.name for alias in node.names if alias.name in {*_MAKES_MODELS, "endpoint", "*"}
            }
            names |= {*_MAKES_MODELS, "endpoint"} if "*" in given else given
    return names


def _is_model(node: ast.ClassDef, ours: set[str]) -> bool:
    """Its base is ``Model``; or, its base coming from elsewhere, a method of it is an endpoint."""
    methods = [item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]
    marks = [mark for method in methods for mark in method.decorator_list]
    return any(_dotted(part) in ours for part in (*node.bases, *marks))


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        return _dotted(node.func)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _imported(path: Path, folder: Path) -> Iterator[str]:
    """Absolute dotted names of what a file imports; of ``from a import b`` also ``a.b``, which may be a module."""
    package = path.relative_to(folder).parent.parts
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise InvalidConfiguration(f"{path} cannot be parsed: {error}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *([node.module] if node.module else [])))
            if base:
                yield base
            if base or node.level:
                yield from (
                    f"{base}.{alias.name}".removeprefix(".") for alias in node.names if _may_be_local(base, folder)
                )


def _may_be_local(base: str, folder: Path) -> bool:
    return (folder / base.partition(".")[0]).is_dir()


def _files_of(module: str, folder: Path) -> Iterator[Path]:
    """The files that importing a dotted name runs, where it lies in the folder: each ``__init__``, then the module."""
    place = folder
    for part in module.split("."):
        if (file := place / f"{part}.py").is_file() and not (place / part / "__init__.py").is_file():
            yield file
            return
        place /= part
        if (file := place / "__init__.py").is_file():
            yield file


def _inside(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
