"""The LiteRT engine (formerly TensorFlow Lite): ``.tflite`` files, as they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setpoint.core import MissingExtra, ModelError, datatype_of
from setpoint.engines.base import Arrays, EngineOptions, one_line
from setpoint.engines.declared import FREE_ROWS, DeclaredTensor
from setpoint.engines.devices import CPU, OnCpu, need_cpu
from setpoint.machine import rss_bytes

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError as missing:
    raise MissingExtra("ai-edge-litert", "litert", "running a .tflite model") from missing

_MESSAGE_CHARACTERS = 300


class LitertExecutable:
    """An interpreter. Used by one thread at a time.

    Attributes:
        device: it computes on.
        inputs, outputs: as the file declares them; with ``free_rows``, first axes of 1 are free.
    """

    device = CPU

    def __init__(self, interpreter: Interpreter, *, free_rows: bool, memory_bytes: int) -> None:
        self._interpreter = interpreter
        self._memory_bytes = memory_bytes
        self._inputs = {_name(detail): detail["index"] for detail in interpreter.get_input_details()}
        self._outputs = {_name(detail): detail["index"] for detail in interpreter.get_output_details()}
        self.inputs = tuple(_declared(detail, free_rows) for detail in interpreter.get_input_details())
        self.outputs = tuple(_declared(detail, free_rows) for detail in interpreter.get_output_details())
        self._shapes: tuple[tuple[int, ...], ...] = ()

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Compute every output; see ``Executable.run``.

        Raises:
            ModelError: the graph failed, or an input does not fit it.
        """
        arrays = {name: np.ascontiguousarray(inputs[name]) for name in self._inputs}
        shapes = tuple(array.shape for array in arrays.values())
        try:
            if shapes != self._shapes:
                self._resize(shapes)
            for name, index in self._inputs.items():
                self._interpreter.set_tensor(index, arrays[name])
            self._interpreter.invoke()
            return {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}
        except Exception as error:  # the library raises ValueError, RuntimeError and TypeError
            self._shapes = ()
            raise ModelError(f"the model failed: {one_line(error, _MESSAGE_CHARACTERS)}") from error

    def memory_bytes(self) -> int:
        """Resident bytes this process grew by while the model was loaded."""
        return self._memory_bytes

    def close(self) -> None:
        """Free the interpreter."""
        del self._interpreter

    def _resize(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        for tensor, shape in zip(self.inputs, shapes, strict=True):
            # The library would resize any axis of any model and compute nonsense, or beyond its memory.
            fits = len(shape) == len(tensor.axes) and all(
                not isinstance(axis, int) or axis == length for axis, length in zip(tensor.axes, shape, strict=True)
            )
            if not fits or 0 in shape:
                raise ValueError(f"input {tensor.name!r} is {tensor.spec}, got shape {list(shape)}")
        for index, shape in zip(self._inputs.values(), shapes, strict=True):
            self._interpreter.resize_tensor_input(index, shape)
        self._interpreter.allocate_tensors()
        self._shapes = shapes


class LitertEngine(OnCpu):
    """Loads ``.tflite`` files on the CPU (XNNPACK)."""

    name = "litert"

    def load(self, artifact: Path, entry: str, options: EngineOptions) -> LitertExecutable:
        """Load a model file; ``entry`` may be ``free-rows``.

        Raises:
            ModelError: it cannot be loaded.
        """
        need_cpu(self.name, options.device)
        before = rss_bytes(os.getpid())
        try:
            # From memory, so that the bundle's file is not kept mapped.
            interpreter = Interpreter(model_content=artifact.read_bytes(), num_threads=options.threads)
            interpreter.allocate_tensors()
            used = max(0, rss_bytes(os.getpid()) - before)
            return LitertExecutable(interpreter, free_rows=entry == FREE_ROWS, memory_bytes=used)
        except ModelError:
            raise
        except Exception as error:  # the library raises ValueError, RuntimeError and TypeError
            raise ModelError(
                f"{artifact.name} cannot be loaded by LiteRT: {one_line(error, _MESSAGE_CHARACTERS)}"
            ) from error


def _declared(detail: dict[str, Any], free_rows: bool) -> DeclaredTensor:
    signature = [int(axis) for axis in detail.get("shape_signature", detail["shape"])]
    axes: list[int | str | None] = [axis if axis >= 0 else None for axis in signature]
    if axes and (axes[0] is None or (free_rows and axes[0] == 1)):
        axes[0] = "rows"
    try:
        datatype = datatype_of(np.dtype(detail["dtype"])).name
    except Exception as error:
        raise ModelError(f"tensor {_name(detail)!r} is of type {detail['dtype']}, which is not served") from error
    return DeclaredTensor(_name(detail), datatype, tuple(axes))


def _name(detail: dict[str, Any]) -> str:
    """Without what TensorFlow appends: ``serving_default_x:0`` is ``x``."""
    name = str(detail["name"]).partition(":")[0].removeprefix("serving_default_")
    return name or f"tensor_{detail['index']}"
