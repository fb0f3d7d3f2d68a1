"""PyTorch archives: exported programs (``.pt2``), TorchScript, and checkpoints that need a Python file beside them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from setpoint.core import DATATYPES, InvalidConfiguration, Lineage, MissingExtra, ModelError
from setpoint.engines import one_line
from setpoint.formats.base import PackedModel, PackOptions
from setpoint.formats.probe import probe_loaded
from setpoint.formats.tensor_model import source_digest, tensor_manifest
from setpoint.formats.torch_archive import CHECKPOINT, PROGRAM, SCRIPT, check_program, check_sizes, kind_of
from setpoint.formats.torch_export import (
    Exported,
    declared,
    pack_program,
    sample_declares,
    sample_rows,
    tensors_of,
)
from setpoint.formats.torch_module import builder_beside, pack_module

_ROWS, _LENGTH = 2, 8


class TorchProgramFormat:
    """What ``torch.export.save`` and ``torch.jit.save`` write; also ``torch.save``, to say what is missing."""

    name = "torch"

    def recognises(self, source: Path) -> bool:
        """Whether it is one of PyTorch's archives; reads names of entries only."""
        return source.is_file() and kind_of(source) in (PROGRAM, SCRIPT, CHECKPOINT)

    def pack(self, source: Path, options: PackOptions, workdir: Path) -> PackedModel:
        """Convert a program and prove it; keep TorchScript as it is; build a checkpoint's module.

        Raises:
            MissingExtra: torch is not installed.
            UntrustedFile: loading the program could run code.
            InvalidConfiguration: it cannot be loaded, is a checkpoint without a builder, or nothing runs through it.
        """
        kind = kind_of(source)
        if kind == CHECKPOINT:
            return _checkpoint(source, options, workdir)
        (check_sizes(source) if kind == SCRIPT else check_program(source, options.trust))
        require_torch(f"packing {source.name}")
        return _script(source, options) if kind == SCRIPT else _program(source, options, workdir)


def require_torch(purpose: str) -> None:
    """Check that torch is here.

    Raises:
        MissingExtra: it is not.
    """
    try:
        import torch  # noqa: F401  # asked for its presence
    except ImportError as error:
        raise MissingExtra("torch", "torch", purpose) from error


def _program(source: Path, options: PackOptions, workdir: Path) -> PackedModel:
    import torch

    from setpoint.engines import torch as engine

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(str(source))
    except Exception as error:  # the library raises a dozen unrelated classes
        raise InvalidConfiguration(
            f"{source} cannot be loaded by torch {torch.__version__}: {one_line(error)}"
        ) from error
    tensors = tensors_of(program)
    executable = engine.program(program)
    if options.sample is not None:
        examples, origin = sample_rows(options.sample, tensors), f"rows of {options.sample.name}"
    else:
        examples, origin = _examples(program, tensors), "the program's example inputs"
    try:
        executable.run(examples)
    except ModelError as error:
        raise InvalidConfiguration(
            f"{source}: {error}; give real rows: --sample rows.npz with an array for each of"
            f" {', '.join(tensor.name for tensor in tensors)}"
        ) from error
    packed = pack_program(Exported(program, executable.run, examples, tensors, origin), workdir)
    lineage = Lineage("torch", source_digest(source), packed.tools, packed.checks)
    manifest = tensor_manifest(
        packed.signature, packed.precision, lineage, engine=packed.engine, artifact=packed.artifact
    )
    return PackedModel(manifest, {packed.artifact: packed.file}, source.resolve().stem)


def _examples(program: Any, tensors: Any) -> dict[str, Any]:
    """The inputs a program was exported with, where it kept them; else ones of its shapes."""
    from torch.utils import _pytree as pytree

    from setpoint.engines import torch as engine

    kept = program.example_inputs
    if kept is not None:
        leaves = [leaf for leaf in pytree.tree_leaves(kept) if leaf is not None]
        if len(leaves) == len(tensors):
            return {tensor.name: engine.to_array(leaf) for tensor, leaf in zip(tensors, leaves, strict=True)}
    random = np.random.default_rng(0)
    made = {}
    for tensor in tensors:
        lengths = [
            axis if isinstance(axis, int) else _ROWS if position == 0 else _LENGTH
            for position, axis in enumerate(tensor.axes)
        ]
        kind = DATATYPES[tensor.datatype]
        drawn = random.standard_normal(lengths) if kind.is_float else random.integers(0, 2, lengths)
        made[tensor.name] = np.asarray(drawn).astype(kind.dtype)
    return made


def _script(source: Path, options: PackOptions) -> PackedModel:
    from setpoint.engines import torch as engine

    name = f"model{engine.SCRIPT_SUFFIX}"
    if options.sample is None:
        raise InvalidConfiguration(
            f"{source} is TorchScript, which does not say what shapes it takes: give rows, --sample rows.npz with one"
            " array per input; or export the module with torch.export.save"
        )
    try:
        executable = engine.script(source)
    except ModelError as error:
        raise InvalidConfiguration(error.message) from error
    tensors, rows = sample_declares(options.sample, executable.input_names)
    origin = f"rows of {options.sample.name}"
    try:
        found = probe_loaded(declared(executable.run, tensors, rows), rows=rows, origin=origin)
    except ModelError as error:
        raise InvalidConfiguration(f"{source}: {error} (on the {origin})") from error
    import torch

    tools = {"torch": torch.__version__.partition("+")[0]}
    checks = ("served by torch itself: TorchScript has no exporter to ONNX", *found.checks)
    lineage = Lineage("torch", source_digest(source), tools, checks)
    manifest = tensor_manifest(found.signature, "fp32", lineage, engine="torch", artifact=name)
    return PackedModel(manifest, {name: source}, source.resolve().stem)


def _checkpoint(source: Path, options: PackOptions, workdir: Path) -> PackedModel:
    builder = builder_beside(source)
    if builder is None:
        raise InvalidConfiguration(
            f"{source} holds weights only: put a Python file with build_model() and example_inputs() beside it"
            f" ({source.stem}.py), or export the module with torch.export.save"
        )
    check_sizes(source)
    require_torch(f"packing {source.name}")
    return pack_module(builder, source, options, workdir)
