"""A Python class: a file, or a folder with a file, that defines a ``setpoint.Model``.

A single file brings along what it declares (``uses``, ``file``) and the modules beside it that it imports; a folder
brings everything in it.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from setpoint.authoring import (
    REQUIREMENTS_FILE,
    Model,
    UserModule,
    Uses,
    declared_files,
    describe,
    requirements_of,
    write_requirements,
)
from setpoint.core import InvalidConfiguration, Lineage, ModelError, ModelManifest, Variant
from setpoint.engines import EngineOptions, load_onnx
from setpoint.formats.base import PackedModel, PackOptions
from setpoint.formats.onnx import external_weights, is_model
from setpoint.formats.python_function import modules_in_pickle
from setpoint.formats.python_sources import defines_model, everything_in, imports_of, models_in
from setpoint.formats.tensor_model import source_digest

PREFERRED_FILE = "model.py"
_OURS = frozenset({REQUIREMENTS_FILE, "setpoint.json"})


class PythonClassFormat:
    """Files and folders that define a model class. Packing runs them: it imports the module."""

    name = "python"

    def recognises(self, source: Path) -> bool:
        """Whether the source defines a subclass of ``setpoint.Model``; parses it, runs none of it."""
        return defines_model(source) if source.is_file() else bool(models_in(source))

    def pack(self, source: Path, options: PackOptions, workdir: Path) -> PackedModel:
        """Import the module, describe its class, and collect its files.

        Raises:
            ConfigurationError: an import is not installed, the module fails, it has no model or several, an annotation
                is not supported, or a declared file is missing or lies outside the folder.
        """
        artifact = _artifact(source, options.entry)
        folder = artifact.parent
        try:
            with _no_bytecode():
                module = UserModule(artifact)
        except ModelError as error:
            raise InvalidConfiguration(str(error)) from error
        try:
            model_class = _choose(module, options.entry)
            endpoints, schemas = describe(model_class)
            declared, checks = _declared(model_class, folder)
        finally:
            module.close()
        imports = imports_of(artifact, folder)
        files = {path: folder / path for path in imports.local} | declared
        if source.is_dir():
            files = everything_in(folder) | files
        files = {path: file for path, file in sorted(files.items()) if path not in _OURS}
        requirements = requirements_of(imports.outside | modules_in_pickle(folder))
        lineage = Lineage(
            format=self.name,
            source_digest=_digest(files),
            tools={requirement.distribution: requirement.version for requirement in requirements},
            checks=checks,
        )
        if requirements:
            files[REQUIREMENTS_FILE] = write_requirements(requirements, workdir)
        variant = Variant(name="python", engine="python", artifact=artifact.name, entry=model_class.__name__)
        manifest = ModelManifest(endpoints, (variant,), lineage, schemas)
        return PackedModel(manifest, files, kebab_case(model_class.__name__))


def kebab_case(class_name: str) -> str:
    """A class's name as a model's: ``ONNXEmbedder2`` becomes ``onnx-embedder2``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_+", "-", class_name)
    return re.sub(r"[^a-z0-9-]|^-+|-+$", "", words.lower()) or "model"


def _artifact(source: Path, entry: str) -> Path:
    source = source.resolve()
    if source.is_file():
        return source
    found = models_in(source)
    preferred = source / PREFERRED_FILE
    if preferred in found:
        return preferred
    if len(found) > 1 and entry:
        found = [
            path for path in found if re.search(rf"^class {re.escape(entry)}\b", path.read_text("utf-8"), re.MULTILINE)
        ]
    if len(found) != 1:
        names = ", ".join(path.name for path in models_in(source)) or "none"
        raise InvalidConfiguration(
            f"{source}: expected one file that defines a model, found {names}; "
            f"call it {PREFERRED_FILE} or give its path"
        )
    return found[0]


def _choose(module: UserModule, entry: str) -> type[Model]:
    if entry:
        return module.model_class(entry)
    classes = module.model_classes()
    if len(classes) == 1:
        return next(iter(classes.values()))
    name = module.path.name
    if not classes:
        raise InvalidConfiguration(f"{name} has no model with an endpoint: put @sp.endpoint before the methods to call")
    raise InvalidConfiguration(
        f"{name} defines several models, {', '.join(classes)}; say which: {name}:{next(iter(classes))}"
    )


def _declared(model_class: type[Model], folder: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The files a class declares, and a sentence about each model file among them."""
    found: dict[str, Path] = {}
    checks = []
    for attribute, declaration in declared_files(model_class).items():
        where = f"{model_class.__name__}.{attribute}"
        path = folder / declaration.path
        if not path.resolve().is_relative_to(folder):
            raise InvalidConfiguration(f"{where}: {declaration.path} is a link out of {folder}; copy the file there")
        if not path.exists():
            raise InvalidConfiguration(f"{where}: there is no {declaration.path} in {folder}")
        if not isinstance(declaration, Uses):
            found |= _below(path, declaration.path)
            continue
        found |= {declaration.path: path} | _weights(where, path, folder)
        checks.append(f"{declaration.path}: {_described(where, path)}")
    return found, tuple(checks)


def _below(path: Path, name: str) -> dict[str, Path]:
    if path.is_dir():
        return {f"{name}/{inner}": file for inner, file in everything_in(path).items()}
    return {name: path}


def _weights(where: str, path: Path, folder: Path) -> dict[str, Path]:
    if not path.is_file() or not is_model(path):
        raise InvalidConfiguration(
            f"{where}: {path.name} is not an ONNX model; sp.uses runs ONNX models, sp.file takes any file"
        )
    prefix = path.parent.relative_to(folder)
    return {(prefix / name).as_posix(): file for name, file in external_weights(path).items()}


def _described(where: str, path: Path) -> str:
    try:
        loaded = load_onnx(path, EngineOptions())
    except ModelError as error:
        raise InvalidConfiguration(f"{where}: {error}") from error
    try:
        takes, gives = (", ".join(str(tensor.spec) for tensor in side) for side in (loaded.inputs, loaded.outputs))
        return f"{takes} → {gives}"
    finally:
        loaded.close()


def _digest(files: dict[str, Path]) -> str:
    lines = [f"{path}\0{source_digest(file)}\n" for path, file in files.items()]
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


@contextmanager
def _no_bytecode() -> Iterator[None]:
    """Leave no ``__pycache__`` in the user's folder."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
