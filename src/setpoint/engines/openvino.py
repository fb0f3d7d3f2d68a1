"""The OpenVINO engine: ONNX files and OpenVINO's own, compiled for this processor when they are loaded.

Every setting is explicit. Left to itself OpenVINO computes in bfloat16 wherever the processor has instructions for it,
which changes answers unasked, and pins its threads to the first cores, the same ones in every worker.

Only the runtime is used; what of OpenVINO reports usage to its maker is the conversion of models, which is not.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setpoint.core import DATATYPES, InvalidConfiguration, MissingExtra, ModelError
from setpoint.engines.base import Arrays, EngineOptions, one_line
from setpoint.engines.declared import DeclaredTensor
from setpoint.engines.devices import CPU, start
from setpoint.machine import rss_bytes

try:
    import openvino
except ImportError as error:
    raise MissingExtra("openvino", "openvino", "the OpenVINO engine") from error

PRECISIONS = {"": "f32", "fp32": "f32", "bf16": "bf16", "fp16": "f16"}
"""What a variant's ``entry`` asks for → OpenVINO's name of the precision to compute in."""
_TYPES = {"boolean": "BOOL", "string": "BYTES", "f16": "FP16", "f32": "FP32", "f64": "FP64", "bf16": "BF16"} | {
    f"{kind}{bits}": f"{name}{bits}" for kind, name in (("i", "INT"), ("u", "UINT")) for bits in (8, 16, 32, 64)
}
_MESSAGE_CHARACTERS = 300


class OpenvinoExecutable:
    """A compiled model and its one request. Used by one thread at a time.

    Attributes:
        device: it was compiled for.
    """

    def __init__(self, compiled: Any, memory_bytes: int, device: str) -> None:
        self.device = device
        self._ports = (compiled.inputs, compiled.outputs)
        self._request = compiled.create_infer_request()
        self._names = [_name(port, "output") for port in compiled.outputs]
        self._memory_bytes = memory_bytes

    @property
    def inputs(self) -> tuple[DeclaredTensor, ...]:
        """As the file declares them.

        Raises:
            ModelError: one is of a type that is not served, or does not say how many axes it has.
        """
        return tuple(map(_declared, self._ports[0]))

    @property
    def outputs(self) -> tuple[DeclaredTensor, ...]:
        """As the file declares them.

        Raises:
            ModelError: as for inputs.
        """
        return tuple(map(_declared, self._ports[1]))

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Compute every output; see ``Executable.run``.

        Raises:
            ModelError: the graph failed, or an input does not fit it.
        """
        try:
            answers = self._request.infer(dict(inputs), share_inputs=True, share_outputs=True)
        except Exception as error:  # the library raises RuntimeError, TypeError and its own
            raise ModelError(f"the model failed: {one_line(error, _MESSAGE_CHARACTERS)}") from error
        # Copied: the request writes its next answers into the same memory.
        return {name: np.array(answers[index]) for index, name in enumerate(self._names)}

    def memory_bytes(self) -> int:
        """Resident bytes this process grew by while the model was compiled."""
        return self._memory_bytes

    def close(self) -> None:
        """Free the request and, with it, the compiled model."""
        del self._request, self._ports


class OpenvinoEngine:
    """Loads ``.onnx`` and ``.xml`` files, for the CPU and for Intel's graphics and neural processors."""

    name = "openvino"

    def devices(self) -> tuple[str, ...]:
        """Those that its plugins see."""
        return tuple(dict.fromkeys(map(_kind, openvino.Core().available_devices)))

    def load(self, artifact: Path, entry: str, options: EngineOptions) -> OpenvinoExecutable:
        """Compile a model file.

        Args:
            artifact: the model; weights outside it are found beside it.
            entry: precision to compute in: ``fp32`` (also when empty), ``bf16`` or ``fp16``.
            options: how it may use the machine.

        Raises:
            InvalidConfiguration: an unknown precision, or the device is not here.
            ModelError: the file cannot be loaded.
        """
        precision = PRECISIONS.get(entry)
        if precision is None:
            raise InvalidConfiguration(
                f"OpenVINO computes in {', '.join(filter(None, PRECISIONS))}; this variant asks for {entry!r}"
            )
        if options.device == CPU:
            return _compiled(CPU, artifact, options, precision)
        return start(
            self.name,
            options.device,
            self.devices(),
            lambda device: _compiled(device, artifact, options, precision),
            {"gpu": "Intel's graphics driver", "npu": "Intel's NPU driver"},
        )


def _compiled(device: str, artifact: Path, options: EngineOptions, precision: str) -> OpenvinoExecutable:
    before = rss_bytes(os.getpid())
    settings = _settings(options, precision) if device == CPU else {"PERFORMANCE_HINT": "LATENCY"}
    try:
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(artifact), device.upper(), settings)
        return OpenvinoExecutable(compiled, max(0, rss_bytes(os.getpid()) - before), device)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"{artifact.name} cannot be loaded by OpenVINO: {one_line(error, _MESSAGE_CHARACTERS)}"
        ) from error


def _kind(plugin: str) -> str:
    """``GPU.0`` and ``GPU.1`` are both ``gpu``, which stands for the first of them."""
    return plugin.lower().partition(".")[0]


def _settings(options: EngineOptions, precision: str) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": options.threads,
        "INFERENCE_PRECISION_HINT": precision,
        "ENABLE_CPU_PINNING": False,
        "ENABLE_HYPER_THREADING": True,  # the threads were counted by whoever started us
    }


def _declared(port: Any) -> DeclaredTensor:
    kind, name = port.get_element_type().get_type_name(), _name(port, "input or output")
    if _TYPES.get(kind) not in DATATYPES:
        raise ModelError(f"tensor {name!r} is of type {kind}, which is not served")
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        raise ModelError(f"tensor {name!r} does not say how many axes it has; convert the model with shapes")
    return DeclaredTensor(name, _TYPES[kind], tuple(axis.get_length() if axis.is_static else None for axis in shape))


def _name(port: Any, role: str) -> str:
    """A port's name in the graph.

    Raises:
        ModelError: it has none.
    """
    try:
        return str(port.get_any_name())
    except RuntimeError as error:
        raise ModelError(f"an {role} of the model has no name; export it with names") from error
