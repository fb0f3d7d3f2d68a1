"""A Python file that builds a PyTorch module, with its weights beside it: ``build_model()`` and ``example_inputs()``.

``net.py`` defines both; ``net.safetensors``, or a checkpoint such as ``net.pt``, holds the weights if there are any.
Either may be given: the weights' file finds the Python file beside it. The module is exported with a free batch axis
where it takes one.
"""

from __future__ import annotations

import ast
import json
import struct
import warnings
from pathlib import Path
from typing import Any

from setpoint.authoring import UserModule
from setpoint.core import InvalidConfiguration, Lineage, MissingExtra, ModelError
from setpoint.engines import Arrays, one_line
from setpoint.formats.base import PackedModel, PackOptions
from setpoint.formats.tensor_model import source_digest, tensor_manifest
from setpoint.formats.torch_export import Exported, pack_program, tensors_of

_BUILD, _EXAMPLES, _SHAPES = "build_model", "example_inputs", "dynamic_shapes"
_WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_SOURCE_LIMIT_BYTES = 4 << 20
_HEADER_LIMIT_BYTES = 100 << 20  # the safetensors library's own


class TorchModuleFormat:
    """A Python file with a builder, a folder with one, or the ``.safetensors`` beside one."""

    name = "torch-module"

    def recognises(self, source: Path) -> bool:
        """Whether it defines both functions, judged by parsing; or is a safetensors file."""
        if source.is_dir():
            return len(_builders_in(source)) == 1
        return is_builder(source) or is_safetensors(source)

    def pack(self, source: Path, options: PackOptions, workdir: Path) -> PackedModel:
        """Import the file, build the module, load its weights, export and prove.

        Raises:
            MissingExtra: torch or safetensors is not installed.
            InvalidConfiguration: the file fails, weights do not fit, or the module cannot be exported.
        """
        builder = (
            source if is_builder(source) else _builders_in(source)[0] if source.is_dir() else builder_beside(source)
        )
        if builder is None:
            raise InvalidConfiguration(
                f"{source} holds weights only: put a Python file with {_BUILD}() and {_EXAMPLES}() beside it"
                f" ({source.stem}.py)"
            )
        weights = source if is_safetensors(source) else _weights_beside(builder)
        return pack_module(builder, weights, options, workdir)


def is_builder(path: Path) -> bool:
    """Whether a Python file defines ``build_model`` and ``example_inputs`` at its top; parses it, runs none of it."""
    if path.suffix != ".py" or not path.is_file() or path.stat().st_size > _SOURCE_LIMIT_BYTES:
        return False
    content = path.read_bytes()
    if _BUILD.encode() not in content or _EXAMPLES.encode() not in content:
        return False
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return False
    return {_BUILD, _EXAMPLES} <= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def is_safetensors(path: Path) -> bool:
    """Whether a file starts with a safetensors header."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.read(8)
        if len(first) < 8:
            return False
        (length,) = struct.unpack("<Q", first)
        if not 2 <= length <= min(_HEADER_LIMIT_BYTES, path.stat().st_size):
            return False
        if file.read(1) != b"{":
            return False
        file.seek(8)
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            return False
    return all(
        isinstance(entry, dict) and ("dtype" in entry or name == "__metadata__") for name, entry in header.items()
    )


def builder_beside(weights: Path) -> Path | None:
    """The Python file that builds the module of a weights' file: of its name, or the only one in its folder."""
    same = weights.with_suffix(".py")
    if is_builder(same):
        return same
    found = _builders_in(weights.absolute().parent)
    return found[0] if len(found) == 1 else None


def _builders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.py") if is_builder(path))


def _weights_beside(builder: Path) -> Path | None:
    found = [builder.with_suffix(suffix) for suffix in _WEIGHTS if builder.with_suffix(suffix).is_file()]
    if len(found) > 1:
        raise InvalidConfiguration(
            f"beside {builder} lie {', '.join(path.name for path in found)}; give the one to use"
        )
    return found[0] if found else None


def pack_module(builder: Path, weights: Path | None, options: PackOptions, workdir: Path) -> PackedModel:
    """Build, load, export and prove; see ``TorchModuleFormat.pack``."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("torch", "torch", f"packing {builder.name}") from error
    torch.manual_seed(0)  # a builder without weights starts from random ones: the same ones each time
    user = _imported(builder)
    try:
        module = _called(user, _BUILD)
        if not isinstance(module, torch.nn.Module):
            raise InvalidConfiguration(
                f"{builder}: {_BUILD}() gave a {type(module).__name__}, expected a torch.nn.Module"
            )
        notes = [_load_weights(module, weights)] if weights else []
        module.eval()
        args, kwargs = _as_call(builder, _called(user, _EXAMPLES))
        shapes = _called(user, _SHAPES) if hasattr(user.module, _SHAPES) else None
        exported = _exported(builder, module, args, kwargs, shapes, notes)
        packed = pack_program(exported, workdir)
    finally:
        user.close()
    digests = [source_digest(path) for path in (builder, weights) if path is not None]
    source = weights if weights is not None else builder
    lineage = Lineage("torch-module", "+".join(digests), packed.tools, packed.checks)
    manifest = tensor_manifest(
        packed.signature, packed.precision, lineage, engine=packed.engine, artifact=packed.artifact
    )
    return PackedModel(manifest, {packed.artifact: packed.file}, source.resolve().stem)


def _imported(builder: Path) -> UserModule:
    try:
        return UserModule(builder)
    except ModelError as error:
        raise InvalidConfiguration(error.message) from error


def _called(user: UserModule, name: str) -> Any:
    try:
        return getattr(user.module, name)()
    except (Exception, SystemExit) as error:  # the user's code
        raise InvalidConfiguration(f"{user.path}: {name}() failed: {one_line(error)}") from error


def _load_weights(module: Any, weights: Path) -> str:
    import torch

    try:
        if is_safetensors(weights):
            try:
                from safetensors.torch import load_file
            except ImportError as error:
                raise MissingExtra("safetensors", "torch", f"reading {weights.name}") from error
            state = load_file(str(weights))
        else:
            # Weights only: tensors and nothing that could run.
            state = torch.load(str(weights), map_location="cpu", weights_only=True)
            if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
                state = state["state_dict"]
        module.load_state_dict(state)
    except MissingExtra:
        raise
    except Exception as error:  # both libraries raise whatever they meet
        if "weights_only" in str(error) or "WeightsUnpickler" in str(error):
            raise InvalidConfiguration(
                f"{weights} is more than weights: it could run code when loaded. Save the module's state_dict()"
            ) from error
        raise InvalidConfiguration(f"{weights} cannot be loaded into the module: {one_line(error)}") from error
    return f"weights of {weights.name}"


def _as_call(builder: Path, examples: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    import torch

    if isinstance(examples, torch.Tensor):
        return (examples,), {}
    if isinstance(examples, dict) and all(isinstance(value, torch.Tensor) for value in examples.values()):
        return (), examples
    if isinstance(examples, tuple | list) and all(isinstance(value, torch.Tensor) for value in examples):
        return tuple(examples), {}
    raise InvalidConfiguration(
        f"{builder}: {_EXAMPLES}() gave something else than a tensor, a tuple or a dict of tensors"
    )


def _exported(
    builder: Path, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any, notes: list[str]
) -> Exported:
    """Export with a free batch axis if the module takes one; two rows, since torch takes an axis of one for fixed."""
    import torch

    from setpoint.engines import torch as engine

    args, kwargs = (tuple(map(_two_rows, args)), {name: _two_rows(value) for name, value in kwargs.items()})
    dimension = torch.export.Dim
    attempts: list[Any] = [shapes] if shapes is not None else []
    for kind in (dimension.DYNAMIC, dimension.AUTO):
        free = [{0: kind} if value.ndim else None for value in (*args, *kwargs.values())]
        attempts.append(dict(zip(kwargs, free, strict=True)) if kwargs else tuple(free))
    program, problem = None, ""
    for attempt in (*attempts, None):
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                program = torch.export.export(module, args, kwargs, dynamic_shapes=attempt)
            break
        except Exception as error:  # the exporter raises whatever it meets
            problem = problem or one_line(error)
    if program is None:
        raise InvalidConfiguration(
            f"{builder}: the module cannot be exported ({problem}); wrap it in a Python class to serve it as it is"
        )
    if attempt is None:
        notes = [*notes, f"no free batch axis: {problem}"]
    names = program.graph_signature.user_inputs

    def run(arrays: Arrays) -> dict[str, Any]:
        tensors = [engine.to_tensor(arrays[name]) for name in names]
        try:
            with torch.inference_mode():
                answer = module(**dict(zip(kwargs, tensors, strict=True))) if kwargs else module(*tensors)
        except Exception as error:  # the module's own code
            raise ModelError(f"the module failed: {one_line(error)}") from error
        return engine.named_outputs(answer)

    examples = dict(zip(names, map(engine.to_array, (*args, *kwargs.values())), strict=True))
    return Exported(program, run, examples, tensors_of(program), "the example inputs", tuple(notes))


def _two_rows(value: Any) -> Any:
    import torch

    return torch.cat([value, value]) if value.ndim and value.shape[0] == 1 else value
