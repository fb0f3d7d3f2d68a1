"""From a PyTorch module or exported program to ONNX, proven equal; else the program itself, served by torch."""

from __future__ import annotations

import importlib.metadata
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import DATATYPES, ConversionMismatch, InvalidConfiguration, ModelError, datatype_of
from setpoint.engines import Arrays, DeclaredTensor, EngineOptions, load_onnx, one_line
from setpoint.formats.inputs import load_npz
from setpoint.formats.onnx import precision_of
from setpoint.formats.probe import probe, probe_loaded
from setpoint.formats.proof import Trial, prove
from setpoint.formats.tensor_model import ARTIFACT

PROGRAM_ARTIFACT = "model.pt2"
_REMEDY = "so torch serves it"
_BATCHES = (1, 2, 5)
Run = Callable[[Arrays], dict[str, NDArray[Any]]]


class Exported(msgspec.Struct, frozen=True):
    """What packing needs of a program.

    Attributes:
        program: ``torch.export.ExportedProgram``.
        source: the truth: the module before it was exported, or the program itself.
        examples: one array per input, rows first.
        tensors: inputs as the program declares them, free axes by symbol.
        origin: of the examples, in words.
        notes: what exporting found.
    """

    program: Any
    source: Run
    examples: dict[str, NDArray[Any]]
    tensors: tuple[DeclaredTensor, ...]
    origin: str
    notes: tuple[str, ...] = ()


class Packed(msgspec.Struct, frozen=True):
    """What became of it."""

    engine: str
    artifact: str
    file: Path
    signature: Any
    precision: str
    checks: tuple[str, ...]
    tools: dict[str, str]


def pack_program(exported: Exported, workdir: Path) -> Packed:
    """Convert and prove, or keep the program.

    Raises:
        InvalidConfiguration: the program runs on none of the inputs.
    """
    trials = list(_trials(exported))
    if not trials:
        raise InvalidConfiguration(f"the module does not run on {exported.origin}")
    artifact = workdir / ARTIFACT
    checks = list(exported.notes)
    tools = {"torch": importlib.metadata.version("torch").partition("+")[0]}
    rows = exported.examples
    try:
        precision = _convert(exported.program, list(trials[0].arrays), exported.source(trials[0].arrays), artifact)
        converted = load_onnx(artifact, EngineOptions(), quiet=True)
        checks.append(prove(exported.source, converted.run, trials, "the module's ONNX conversion", remedy=_REMEDY))
    except (ConversionMismatch, ModelError) as error:
        checks.append(f"served by torch itself: {error.message.removesuffix('; ' + _REMEDY)}")
        return _keep(exported, rows, tuple(checks), tools, workdir)
    found = probe(artifact, rows=rows, origin=exported.origin)
    tools |= {name: importlib.metadata.version(name) for name in ("onnx", "onnxscript", "onnxruntime")}
    return Packed("onnxruntime", ARTIFACT, artifact, found.signature, precision, (*checks, *found.checks), tools)


def _keep(exported: Exported, rows: Arrays, checks: tuple[str, ...], tools: dict[str, str], workdir: Path) -> Packed:
    import torch

    from setpoint.engines import torch as engine

    artifact = workdir / PROGRAM_ARTIFACT
    torch.export.save(exported.program, str(artifact))
    executable = engine.TorchEngine().load(artifact, "", EngineOptions())
    told = prove(
        exported.source,
        executable.run,
        list(_trials(exported)),
        "the exported program",
        remedy="nothing serves it exactly",
    )
    loaded = declared(executable.run, exported.tensors, rows)
    found = probe_loaded(loaded, rows=rows, origin=exported.origin)
    told = told.replace("converted answers", "answers of the exported program")
    return Packed("torch", PROGRAM_ARTIFACT, artifact, found.signature, "fp32", (*checks, told, *found.checks), tools)


class _Declared:
    """A run with what is known of its inputs and outputs, for the probe."""

    def __init__(self, run: Run, inputs: tuple[DeclaredTensor, ...], outputs: tuple[DeclaredTensor, ...]) -> None:
        self.run = run
        self.inputs = inputs
        self.outputs = outputs


def declared(run: Run, tensors: tuple[DeclaredTensor, ...], rows: Arrays) -> _Declared:
    """A run as the probe wants it; outputs are declared as they come, their first axis free."""
    outputs = tuple(
        DeclaredTensor(name, datatype_of(array.dtype).name, (None, *array.shape[1:]) if array.ndim else ())
        for name, array in run(rows).items()
    )
    return _Declared(run, tensors, outputs)


def tensors_of(program: Any) -> tuple[DeclaredTensor, ...]:
    """Inputs as an exported program declares them.

    Raises:
        InvalidConfiguration: one is no tensor, or of a type that is not served.
    """
    import torch

    wanted = set(program.graph_signature.user_inputs)
    found = []
    for node in program.graph.nodes:
        if node.op != "placeholder" or node.name not in wanted:
            continue
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            raise InvalidConfiguration(
                f"input {node.name!r} of the program is no tensor; wrap the module so that all are"
            )
        name = str(value.dtype).removeprefix("torch.")
        datatype = {"bfloat16": "BF16", "bool": "BOOL"}.get(name) or next(
            (kind.name for kind in DATATYPES.values() if kind.name != "BYTES" and str(kind.dtype) == name), ""
        )
        if not datatype:
            raise InvalidConfiguration(f"input {node.name!r} of the program is of type {name}, which is not served")
        axes = tuple(axis if isinstance(axis, int) else str(axis) for axis in value.shape)
        found.append(DeclaredTensor(str(node.name), datatype, axes))
    return tuple(found)


def sample_rows(path: Path, tensors: Sequence[DeclaredTensor]) -> dict[str, NDArray[Any]]:
    """The user's ``.npz`` for a program's inputs.

    Raises:
        InvalidConfiguration: it does not fit.
    """
    from setpoint.formats.inputs import read_sample

    return read_sample(path, tuple(tensors))


def sample_declares(path: Path, names: Sequence[str]) -> tuple[tuple[DeclaredTensor, ...], dict[str, NDArray[Any]]]:
    """Inputs as a user's ``.npz`` shows them, for programs that declare none: first axes free, others as they are.

    Raises:
        InvalidConfiguration: other names than the program's.
    """
    arrays = load_npz(path)
    if len(arrays) == len(names) == 1:
        arrays = {names[0]: next(iter(arrays.values()))}
    if set(arrays) != set(names):
        held = ", ".join(sorted(arrays)) or "nothing"
        raise InvalidConfiguration(f"sample {path} holds {held}; expected an array for each of {', '.join(names)}")
    tensors = tuple(
        DeclaredTensor(name, datatype_of(arrays[name].dtype).name, (None, *arrays[name].shape[1:])) for name in names
    )
    return tensors, {name: arrays[name] for name in names}


def _convert(program: Any, names: list[str], answers: dict[str, Any], artifact: Path) -> str:
    """Write the ONNX graph; returns its precision.

    Raises:
        ConversionMismatch: the exporter cannot.
    """
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = torch.onnx.export(
                program,
                dynamo=True,
                external_data=False,
                verbose=False,
                input_names=names,
                output_names=list(answers),
            )
            model = made.model_proto
    except Exception as error:  # the exporter raises whatever it meets
        raise ConversionMismatch(f"it has no exact ONNX form ({one_line(error)}); {_REMEDY}") from error
    _strip(model)
    artifact.write_bytes(model.SerializeToString(deterministic=True))
    return precision_of(model)


def _strip(model: Any) -> None:
    """Take away what the exporter notes of the trainer's files: stack traces with paths, names of modules."""
    del model.metadata_props[:]
    for function in model.functions:
        del function.metadata_props[:]
        for node in function.node:
            del node.metadata_props[:]
            node.doc_string = ""
    model.graph.doc_string = ""
    for item in (
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.input,
        *model.graph.output,
        *model.graph.initializer,
    ):
        item.doc_string = ""
        del item.metadata_props[:]


def _trials(exported: Exported) -> Iterator[Trial]:
    """The examples, and made-up values like them: other numbers of rows, other lengths of free axes."""
    yield Trial(dict(exported.examples), exported.origin)
    random = np.random.default_rng(0)
    free = {axis for tensor in exported.tensors for axis in tensor.axes[:1] if isinstance(axis, str)}
    inner = {axis for tensor in exported.tensors for axis in tensor.axes[1:] if isinstance(axis, str)} - free
    for rows in _BATCHES if free else ():
        yield from _runs(exported, random, dict.fromkeys(free, rows), f"{rows} made-up row{'s' * (rows > 1)}")
    for axis in sorted(inner):
        for length in (3, 17):
            yield from _runs(exported, random, {axis: length}, f"a free axis of {length}")


def _runs(exported: Exported, random: np.random.Generator, lengths: dict[str, int], origin: str) -> Iterator[Trial]:
    arrays = {
        tensor.name: _like(exported.examples[tensor.name], tensor, lengths, random) for tensor in exported.tensors
    }
    try:
        exported.source(arrays)
    except ModelError:
        return  # not a length that the module takes
    yield Trial(arrays, origin)


def _like(
    example: NDArray[Any], tensor: DeclaredTensor, lengths: dict[str, int], random: np.random.Generator
) -> NDArray[Any]:
    """Values drawn from an example's, in another shape."""
    shape = tuple(
        lengths.get(axis, here) if isinstance(axis, str) else here
        for axis, here in zip(tensor.axes, example.shape, strict=True)
    )
    kind = datatype_of(example.dtype)
    if kind.is_float:
        wide = example.astype(np.float64)
        spread = float(wide.std()) or 1.0
        return (float(wide.mean()) + spread * random.standard_normal(shape)).astype(example.dtype)
    return (
        random.choice(example.ravel(), shape).astype(example.dtype) if example.size else np.zeros(shape, example.dtype)
    )
