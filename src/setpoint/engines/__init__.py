"""Run a variant. One engine to a module, loaded by name when a variant asks for it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, cast

from setpoint.core import InvalidConfiguration, Variant
from setpoint.engines.base import Arrays, Engine, EngineOptions, Executable
from setpoint.engines.declared import DeclaredTensor

if TYPE_CHECKING:  # for annotations alone: at run time an adapter loads with its first variant
    from setpoint.engines.onnxruntime import OnnxExecutable as OnnxExecutable
    from setpoint.engines.python import PythonExecutable as PythonExecutable

_ENGINES = {
    "onnxruntime": ("setpoint.engines.onnxruntime", "OnnxEngine"),
    "python": ("setpoint.engines.python", "PythonEngine"),
}


def engine_names() -> tuple[str, ...]:
    """Every engine there is, installed or not."""
    return tuple(_ENGINES)


def engine(name: str) -> Engine:
    """The engine of that name; imports its library.

    Raises:
        InvalidConfiguration: there is no such engine; says which there are.
        MissingExtra: its library is not installed.
    """
    place = _ENGINES.get(name)
    if place is None:
        raise InvalidConfiguration(f"there is no engine {name!r}; expected one of {', '.join(_ENGINES)}")
    module, attribute = place
    return cast(Engine, getattr(importlib.import_module(module), attribute)())


def load_executable(variant: Variant, folder: Path, options: EngineOptions) -> Executable:
    """Load a variant of a bundle whose files lie in ``folder``.

    Raises:
        InvalidConfiguration: there is no such engine.
        MissingExtra: its library is not installed.
        ModelError: the artifact cannot be loaded.
    """
    return engine(variant.engine).load(folder / variant.artifact, variant.entry, options)


def load_onnx(artifact: Path, options: EngineOptions, *, quiet: bool = False) -> OnnxExecutable:
    """Load an ``.onnx`` file that is in no bundle yet; it tells what the graph declares.

    Args:
        artifact: the model file.
        options: how it may use the machine.
        quiet: keep failures of single runs out of stderr; for probing, where failing is an answer.

    Raises:
        ModelError: the file cannot be loaded.
    """
    from setpoint.engines.onnxruntime import load

    return load(artifact, options, quiet=quiet)


__all__ = [
    "Arrays",
    "DeclaredTensor",
    "Engine",
    "EngineOptions",
    "Executable",
    "engine",
    "engine_names",
    "load_executable",
    "load_onnx",
]
