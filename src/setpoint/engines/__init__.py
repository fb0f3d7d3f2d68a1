"""Run a variant. One engine to a module, loaded by name when a variant asks for it.

Beyond the built-in ones, any installed distribution may offer an engine through the entry points ``setpoint.engines``.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, cast

from setpoint.core import InvalidConfiguration, Variant
from setpoint.engines.base import Arrays, Engine, EngineOptions, Executable, one_line
from setpoint.engines.declared import FREE_ROWS, DeclaredTensor
from setpoint.engines.devices import CPU, DEVICES, preference
from setpoint.engines.plugins import Offer, offers

if TYPE_CHECKING:  # for annotations alone: at run time an adapter loads with its first variant
    from setpoint.engines.onnxruntime import OnnxExecutable as OnnxExecutable
    from setpoint.engines.python import PythonExecutable as PythonExecutable

ENTRY_POINT_GROUP = "setpoint.engines"

BUILT_IN = {
    "onnxruntime": "setpoint.engines.onnxruntime:OnnxEngine",
    "openvino": "setpoint.engines.openvino:OpenvinoEngine",
    "python": "setpoint.engines.python:PythonEngine",
    "litert": "setpoint.engines.litert:LitertEngine",
    "xgboost": "setpoint.engines.xgboost:XgboostEngine",
    "lightgbm": "setpoint.engines.lightgbm:LightgbmEngine",
    "catboost": "setpoint.engines.catboost:CatboostEngine",
    "torch": "setpoint.engines.torch:TorchEngine",
}


def engine_names() -> tuple[str, ...]:
    """Every engine of ours, whether its library is installed or not."""
    return tuple(BUILT_IN)


def engine(name: str) -> Engine:
    """The engine of that name; imports its library.

    Raises:
        InvalidConfiguration: there is no such engine, or what another distribution offers by that name is broken; says
            which there are.
        MissingExtra: its library is not installed.
    """
    place = BUILT_IN.get(name)
    if place is not None:
        module, _, attribute = place.partition(":")
        return cast(Engine, getattr(importlib.import_module(module), attribute)())
    problems = []
    for offer in offers(ENTRY_POINT_GROUP, ("name", "load"), only=name):
        if not offer.problem:
            return cast(Engine, offer.loaded)
        problems.append(f"; the engine {offer.problem}")
    raise InvalidConfiguration(f"there is no engine {name!r}; expected one of {', '.join(BUILT_IN)}{''.join(problems)}")


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
    "BUILT_IN",
    "CPU",
    "DEVICES",
    "ENTRY_POINT_GROUP",
    "FREE_ROWS",
    "Arrays",
    "DeclaredTensor",
    "Engine",
    "EngineOptions",
    "Executable",
    "Offer",
    "engine",
    "engine_names",
    "load_executable",
    "load_onnx",
    "offers",
    "one_line",
    "preference",
]
