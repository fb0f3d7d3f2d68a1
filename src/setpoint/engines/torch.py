"""The PyTorch engine: exported programs and TorchScript, where no conversion is exact or there is none."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from setpoint.core import MissingExtra, ModelError
from setpoint.engines.base import Arrays, EngineOptions, one_line
from setpoint.engines.devices import CPU, OnCpu, need_cpu
from setpoint.machine import rss_bytes

try:
    import torch
    from torch.utils import _pytree as pytree
except ImportError as missing:
    raise MissingExtra("torch", "torch", "running a PyTorch model") from missing

SCRIPT_SUFFIX = ".torchscript"


class TorchExecutable:
    """A loaded module. Used by one thread at a time.

    Attributes:
        device: it computes on.
        input_names: in the order that it takes them.
    """

    device = CPU

    def __init__(self, module: Any, input_names: Sequence[str], call: Any, memory_bytes: int) -> None:
        self._module = module
        self._call = call
        self._memory_bytes = memory_bytes
        self.input_names = tuple(input_names)

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Compute every output; see ``Executable.run``.

        Raises:
            ModelError: the module failed, or gives what is no tensor.
        """
        try:
            tensors = [to_tensor(inputs[name]) for name in self.input_names]
            with torch.inference_mode():
                return named_outputs(self._call(tensors))
        except ModelError:
            raise
        except Exception as error:  # a module raises whatever it likes
            raise ModelError(f"the model failed: {one_line(error)}") from error

    def memory_bytes(self) -> int:
        """Resident bytes this process grew by while the module was loaded."""
        return self._memory_bytes

    def close(self) -> None:
        """Free the module."""
        del self._module, self._call


class TorchEngine(OnCpu):
    """Loads ``.pt2`` exported programs and TorchScript archives."""

    name = "torch"

    def load(self, artifact: Path, entry: str, options: EngineOptions) -> TorchExecutable:
        """Load a program. ``entry`` is not used.

        Raises:
            ModelError: it cannot be loaded.
        """
        need_cpu(self.name, options.device)
        torch.set_num_threads(options.threads)
        before = rss_bytes(os.getpid())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # TorchScript is said to be deprecated, each time
                if artifact.suffix == SCRIPT_SUFFIX:
                    return script(artifact, before)
                return program(torch.export.load(str(artifact)), before)
        except ModelError:
            raise
        except Exception as error:  # the library raises a dozen unrelated classes
            raise _unloadable(artifact, error) from error


def program(exported: Any, before_bytes: int = 0) -> TorchExecutable:
    """An exported program, ready to run."""
    # Guards are the exporter's assumptions, such as "at least two rows"; what holds, the proof and the probe find.
    module = exported.module(check_guards=False)
    spec = exported.call_spec.in_spec

    def call(tensors: Sequence[Any]) -> Any:
        args, kwargs = pytree.tree_unflatten(list(tensors), spec)
        return module(*args, **kwargs)

    names = exported.graph_signature.user_inputs
    return TorchExecutable(module, names, call, max(0, rss_bytes(os.getpid()) - before_bytes))


def script(artifact: Path, before_bytes: int = 0) -> TorchExecutable:
    """A TorchScript archive, ready to run.

    Raises:
        ModelError: it cannot be loaded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torch.jit.load(str(artifact), map_location="cpu").eval()
    except Exception as error:  # the library raises RuntimeError, ValueError and others
        raise _unloadable(artifact, error) from error
    names = [argument.name for argument in module.forward.schema.arguments[1:]]
    call = lambda tensors: module(*tensors)  # noqa: E731  # beside its longer twin above
    return TorchExecutable(module, names, call, max(0, rss_bytes(os.getpid()) - before_bytes))


def to_tensor(array: NDArray[Any]) -> torch.Tensor:
    """A tensor with its own memory: arrays are views of memory that is lent."""
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(np.array(array).view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))


def to_array(tensor: torch.Tensor) -> NDArray[Any]:
    """The tensor's values in memory of their own."""
    plain = tensor.detach().cpu().contiguous()
    if plain.dtype == torch.bfloat16:
        return np.array(plain.view(torch.int16).numpy()).view(ml_dtypes.bfloat16)
    return np.array(plain.numpy())


def named_outputs(answer: Any) -> dict[str, NDArray[Any]]:
    """The tensors of an answer by where they stand in it: ``output`` alone, ``output_1`` in a tuple, or their keys.

    Raises:
        ModelError: something in it is no tensor, or there is none.
    """
    named = {}
    for path, leaf in pytree.tree_flatten_with_path(answer)[0]:
        if leaf is None:
            continue
        if not isinstance(leaf, torch.Tensor):
            raise ModelError(
                f"the model gives a {type(leaf).__name__} at {pytree.keystr(path) or 'its output'}, not a tensor"
            )
        named[_name(path)] = to_array(leaf)
    if not named:
        raise ModelError("the model gives no tensor")
    return named


def _name(path: Sequence[Any]) -> str:
    parts = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path]
    if not parts:
        return "output"
    return "_".join(["output", *parts]) if parts[0].isdigit() else "_".join(parts)


def _unloadable(artifact: Path, error: BaseException) -> ModelError:
    return ModelError(f"{artifact.name} cannot be loaded by torch {torch.__version__}: {one_line(error)}")
