"""Setpoint: give it a trained model and an objective; it measures, deploys and holds the objective."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from setpoint.authoring import (
        Audio,
        Context,
        Image,
        InvalidInput,
        Model,
        PipelineModel,
        TableModel,
        Tensor,
        endpoint,
        file,
        model_from_function,
        uses,
    )
    from setpoint.client import AsyncClient, Client
    from setpoint.embed import Service, pack, serve

__version__ = "0.1.0"

# Loaded when first asked for: `setpoint --help` and the node import this package and need no numpy.
_PLACES = {
    "AsyncClient": "setpoint.client",
    "Audio": "setpoint.authoring",
    "Client": "setpoint.client",
    "Context": "setpoint.authoring",
    "Image": "setpoint.authoring",
    "InvalidInput": "setpoint.authoring",
    "Model": "setpoint.authoring",
    "PipelineModel": "setpoint.authoring",
    "Service": "setpoint.embed",
    "TableModel": "setpoint.authoring",
    "Tensor": "setpoint.authoring",
    "endpoint": "setpoint.authoring",
    "file": "setpoint.authoring",
    "model_from_function": "setpoint.authoring",
    "pack": "setpoint.embed",
    "serve": "setpoint.embed",
    "uses": "setpoint.authoring",
}

__all__ = [
    "AsyncClient",
    "Audio",
    "Client",
    "Context",
    "Image",
    "InvalidInput",
    "Model",
    "PipelineModel",
    "Service",
    "TableModel",
    "Tensor",
    "__version__",
    "endpoint",
    "file",
    "model_from_function",
    "pack",
    "serve",
    "uses",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'setpoint' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PLACES[name]), name)
