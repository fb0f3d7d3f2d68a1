"""The ONNX Runtime engine: one session per variant, every setting explicit.

Spinning, measured with a 6-layer encoder (MiniLM, 32 tokens, batch 1) on 2 shared cores, twice, milliseconds:

=====================================  ===========  ===========  ==========================
2 threads                              median run   95th         CPU burnt in 100 ms after
=====================================  ===========  ===========  ==========================
spinning, stopped at the end of a run  5.6 to 6.4   17 to 20     0.1
spinning at will                       5.4 to 7.6   19 to 21     30
not spinning                           7.3 to 8.2   10 to 13     0.1
(1 thread)                             9.3 to 9.8   11.6 to 12   0.1
=====================================  ===========  ===========  ==========================

So threads may spin *during* a run, where operators follow each other, and never between runs. A spinning thread that
waits for one which lost its core waits dearly: where other processes want the cores too, ``spin=False`` has the better
95th percentile.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from setpoint.core import ModelError, TensorSpec
from setpoint.engines.base import Arrays, EngineOptions, one_line
from setpoint.engines.declared import DeclaredTensor
from setpoint.engines.devices import CPU, start
from setpoint.machine import rss_bytes

# ONNX Runtime 1.29 and later sends usage data (model names, hashes of graph and weights) to its maker from Linux too,
# keeps a database in ~/.cache and a thread for it, unless told not to before its first import. A person who wants
# that sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

_DATATYPE_BY_ORT_TYPE = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
_PROVIDERS: dict[str, tuple[str, dict[str, str]]] = {
    CPU: ("CPUExecutionProvider", {}),
    "cuda": ("CUDAExecutionProvider", {}),
    "tensorrt": ("TensorrtExecutionProvider", {}),
    "rocm": ("ROCMExecutionProvider", {}),
    "coreml": ("CoreMLExecutionProvider", {}),
    "directml": ("DmlExecutionProvider", {}),
    "openvino": ("OpenVINOExecutionProvider", {}),
    "gpu": ("OpenVINOExecutionProvider", {"device_type": "GPU"}),
    "npu": ("OpenVINOExecutionProvider", {"device_type": "NPU"}),
}
"""By device: the provider and its options."""
_BEHIND = {"tensorrt": ("cuda",)}
"""What takes the operators that a device's provider does not know, before the CPU does."""
_REMEDIES = {
    "cuda": "onnxruntime-gpu in place of onnxruntime",
    "tensorrt": "onnxruntime-gpu in place of onnxruntime, and TensorRT",
    "directml": "onnxruntime-directml in place of onnxruntime",
    **dict.fromkeys(("openvino", "gpu", "npu"), "onnxruntime-openvino in place of onnxruntime"),
    "coreml": "a Mac",
}
_ONNX_BFLOAT16 = 16  # TensorProto.BFLOAT16
_LOG_ERROR, _LOG_FATAL = 3, 4
_MESSAGE_CHARACTERS = 300


class OnnxExecutable:
    """A session. Used by one thread at a time.

    Attributes:
        device: it was made for.
        inputs, outputs: as the graph declares them.
    """

    def __init__(self, session: ort.InferenceSession, memory_bytes: int, device: str = CPU) -> None:
        self.device = device
        self._session = session
        self._memory_bytes = memory_bytes
        self.inputs = _declared(session.get_inputs(), "input")
        self.outputs = _declared(session.get_outputs(), "output")
        self._output_names = [output.name for output in self.outputs]
        self._string_inputs = frozenset(spec.name for spec in self.inputs if spec.datatype == "BYTES")
        self._string_outputs = frozenset(spec.name for spec in self.outputs if spec.datatype == "BYTES")
        # numpy has no bfloat16 of its own, so the library's plain array interface refuses it.
        self._needs_values = any(spec.datatype == "BF16" for spec in self.inputs + self.outputs)
        # Until it has answered once, it is being tried with lengths that it may not take, and the library prints each
        # failure that it raises.
        self._run_options: ort.RunOptions | None = ort.RunOptions()
        self._run_options.log_severity_level = _LOG_FATAL

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Compute every output; see ``Executable.run``.

        Raises:
            ModelError: the graph failed, an input does not fit it, or a BYTES element is not UTF-8.
        """
        feed: Arrays = inputs
        if self._string_inputs:
            feed = {
                name: _decode(name, array) if name in self._string_inputs else array for name, array in inputs.items()
            }
        try:
            if self._needs_values:
                computed = self._run_values(feed)
            else:
                computed = self._session.run(self._output_names, feed, self._run_options)
        except Exception as error:  # the library raises a dozen unrelated classes, and ValueError and TypeError
            raise ModelError(f"the model failed: {one_line(error, _MESSAGE_CHARACTERS)}") from error
        self._run_options = None
        outputs = dict(zip(self._output_names, computed, strict=True))
        for name in self._string_outputs:
            outputs[name] = _encode(outputs[name])
        return outputs

    def memory_bytes(self) -> int:
        """Resident bytes this process grew by while the session was made."""
        return self._memory_bytes

    def close(self) -> None:
        """Free the session, its weights and its threads."""
        del self._session

    def _run_values(self, feed: Arrays) -> list[NDArray[Any]]:
        values = {name: _to_value(array) for name, array in feed.items()}
        computed = self._session.run_with_ort_values(self._output_names, values, self._run_options)
        return [_from_value(value) for value in computed]


class OnnxEngine:
    """Loads ``.onnx`` and ``.ort`` files on any device that the installed library knows."""

    name = "onnxruntime"

    def devices(self) -> tuple[str, ...]:
        """Those whose provider is in the installed library; whether its drivers are here, only a session tells."""
        offered = ort.get_available_providers()
        return tuple(name for name, (provider, _) in _PROVIDERS.items() if provider in offered)

    def load(self, artifact: Path, entry: str, options: EngineOptions) -> OnnxExecutable:
        """Load a model file; weights outside it are found beside it. ``entry`` is not used.

        Raises:
            ModelError: the file cannot be loaded.
        """
        return load(artifact, options)


def load(artifact: Path, options: EngineOptions, *, quiet: bool = False) -> OnnxExecutable:
    """Load a model file.

    Args:
        artifact: the ``.onnx`` file.
        options: how it may use the machine.
        quiet: keep failures of single runs out of stderr; for probing, where failing is an answer.

    Raises:
        InvalidConfiguration: the device is not here.
        ModelError: the file cannot be loaded, or has inputs or outputs that are no tensors.
    """
    if options.device == CPU:
        return _load_on(CPU, artifact, options, quiet)
    return start(
        OnnxEngine.name,
        options.device,
        OnnxEngine().devices(),
        lambda device: _load_on(device, artifact, options, quiet),
        _REMEDIES,
    )


def _load_on(device: str, artifact: Path, options: EngineOptions, quiet: bool) -> OnnxExecutable:
    providers = [_PROVIDERS[name] for name in (device, *_BEHIND.get(device, ()))]
    settings = _session_options(options, quiet)
    if device == "directml":
        settings.enable_mem_pattern = False  # it cannot reuse memory by pattern, and says so by failing
    before = rss_bytes(os.getpid())
    try:
        session = ort.InferenceSession(artifact, settings, providers=providers)
    except Exception as error:
        raise ModelError(f"{artifact.name} cannot be loaded: {one_line(error, _MESSAGE_CHARACTERS)}") from error
    if session.get_providers()[0] != providers[0][0]:  # it falls back to the CPU with a line in the log
        raise ModelError(f"{artifact.name}: ONNX Runtime could not start {providers[0][0]} here; its log says why")
    _return_free_memory()
    return OnnxExecutable(session, max(0, rss_bytes(os.getpid()) - before), device)


def describe(artifact: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs as a model file declares them, free axes as -1.

    Raises:
        ModelError: the file cannot be loaded.
    """
    executable = load(artifact, EngineOptions())
    return tuple(tensor.spec for tensor in executable.inputs), tuple(tensor.spec for tensor in executable.outputs)


def _session_options(options: EngineOptions, quiet: bool) -> ort.SessionOptions:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads  # with 1 there is no pool: the caller's thread computes
    settings.inter_op_num_threads = 1
    settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.enable_cpu_mem_arena = options.memory_arena
    settings.enable_mem_pattern = options.memory_arena
    settings.log_severity_level = _LOG_FATAL if quiet else _LOG_ERROR
    settings.add_session_config_entry("session.intra_op.allow_spinning", "1" if options.spin else "0")
    settings.add_session_config_entry("session.inter_op.allow_spinning", "0")
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    return settings


def _declared(nodes: Sequence[Any], role: str) -> tuple[DeclaredTensor, ...]:
    tensors = []
    for node in nodes:
        datatype = _DATATYPE_BY_ORT_TYPE.get(node.type)
        if datatype is None:
            raise ModelError(
                f"{role} {node.name!r} is of type {node.type}; Setpoint serves dense tensors of common types."
                " Export the model without it (for scikit-learn converters: zipmap=False)"
            )
        tensors.append(DeclaredTensor(node.name, datatype, tuple(node.shape)))
    return tuple(tensors)


def _decode(name: str, array: NDArray[Any]) -> NDArray[np.object_]:
    elements = array.ravel().tolist()
    decoded = np.empty(len(elements), np.object_)
    for index, element in enumerate(elements):
        try:
            decoded[index] = element if isinstance(element, str) else bytes(element).decode()
        except UnicodeDecodeError as error:
            raise ModelError(
                f"input {name!r}, element {index}: this model takes text, expected UTF-8, got byte"
                f" 0x{error.object[error.start]:02x} at position {error.start}"
            ) from error
    return decoded.reshape(array.shape)


def _encode(array: NDArray[Any]) -> NDArray[np.object_]:
    encoded = np.empty(array.size, np.object_)
    encoded[:] = [
        element.encode() if isinstance(element, str) else bytes(element) for element in array.ravel().tolist()
    ]
    return encoded.reshape(array.shape)


def _to_value(array: NDArray[Any]) -> ort.OrtValue:
    if array.dtype == ml_dtypes.bfloat16:
        bits = np.ascontiguousarray(array).view(np.uint16)
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, _ONNX_BFLOAT16)
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))


def _from_value(value: ort.OrtValue) -> NDArray[Any]:
    if value.element_type() != _ONNX_BFLOAT16:
        return np.array(value.numpy())
    shape = tuple(value.shape())
    bits = (ctypes.c_uint16 * math.prod(shape)).from_address(value.data_ptr())
    copied = np.array(bits, np.uint16)  # the value dies with this call
    array: NDArray[Any] = copied.view(ml_dtypes.bfloat16).reshape(shape)
    return array


def _return_free_memory() -> None:
    """Give the heap that loading freed back to the system: 10 MB of a 3 MB model's worker, 20 MB of MiniLM's."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)
