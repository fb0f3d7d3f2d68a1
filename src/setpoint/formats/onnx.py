"""ONNX files: recognised by their protobuf structure, made safe to carry, probed, and served as they are."""

from __future__ import annotations

import collections
import importlib.metadata
import mmap
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from setpoint.core import InvalidConfiguration, Lineage
from setpoint.formats.base import PackedModel, PackOptions
from setpoint.formats.onnx_weights import WEIGHTS, set_weights_apart
from setpoint.formats.probe import probe
from setpoint.formats.tensor_model import ARTIFACT, source_digest, tensor_manifest

if TYPE_CHECKING:
    import onnx

_FIELD_IR_VERSION, _FIELD_GRAPH, _FIELD_LIMIT = 1, 7, 64
_WIRE_VARINT, _WIRE_FIXED64, _WIRE_BYTES, _WIRE_FIXED32 = 0, 1, 2, 5
_TOP_LEVEL_FIELDS_LIMIT = 100_000  # a model with that many metadata entries, imports and functions is none
_FILES_IN_FOLDER_LIMIT = 1000
_RESERVED = frozenset({ARTIFACT, "setpoint.json"})
_RANGE_AT_RUN_TIME = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"})
_QUANTISED = _RANGE_AT_RUN_TIME | {
    "DequantizeLinear",
    "MatMulInteger",
    "ConvInteger",
    "QLinearMatMul",
    "QLinearConv",
    "MatMulIntegerToFloat",
    "QGemm",
}


class OnnxFormat:
    """A ``ModelProto`` file, or a folder with exactly one, its weights inside or in files beside it."""

    name = "onnx"

    def recognises(self, source: Path) -> bool:
        """Whether the content is a serialised model; reads tags and lengths only."""
        return is_model(source) if source.is_file() else len(_models_in(source)) == 1

    def pack(self, source: Path, options: PackOptions, workdir: Path) -> PackedModel:
        """Probe and describe the model. Its bytes are kept, unless it had to be rewritten (``ZipMap``); large weights
        get a file of their own.

        Raises:
            InvalidConfiguration: not loadable, weights outside its folder, or nothing runs through it.
        """
        model_file = source if source.is_file() else _models_in(source)[0]
        model = _parse(model_file)
        weights = _external_weights(model, model_file)
        checks: list[str] = []
        artifact = model_file
        if removed := drop_zip_maps(model):
            checks.append(f"outputs {', '.join(removed)} give the probabilities as a tensor instead of a list of maps")
            artifact = _rewrite(model, model_file, weights, workdir)
        if not weights and set_weights_apart(model, workdir / WEIGHTS):
            artifact = _rewrite(model, model_file, weights, workdir)
            weights = {WEIGHTS: workdir / WEIGHTS}
        shares_range = any(node.op_type in _RANGE_AT_RUN_TIME for node in _nodes(model.graph))
        found = probe(artifact, options.sample, shares_range=shares_range)
        lineage = Lineage(
            format=self.name,
            source_digest=source_digest(source),
            tools={name: importlib.metadata.version(name) for name in ("onnx", "onnxruntime")},
            checks=(*checks, *found.checks),
        )
        manifest = tensor_manifest(found.signature, precision_of(model), lineage)
        suggested = source.resolve().stem if source.is_file() else source.resolve().name
        return PackedModel(manifest, {ARTIFACT: artifact, **weights}, suggested)


def is_model(path: Path) -> bool:
    """Whether a file is a ``ModelProto`` that holds a graph, judged by walking its top-level protobuf fields."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            fields = set(_top_level_fields(content))
    except (OSError, ValueError, IndexError):  # unreadable, empty, or not protobuf
        return False
    return {_FIELD_IR_VERSION, _FIELD_GRAPH} <= fields


def external_weights(model_file: Path) -> dict[str, Path]:
    """Files beside a model that hold its weights: path relative to the model's folder → file.

    Raises:
        InvalidConfiguration: not a model, or such a file is absent or lies outside the model's folder.
    """
    return _external_weights(_parse(model_file), model_file)


def _models_in(folder: Path) -> list[Path]:
    """The ONNX files at the top of a folder, sorted; a model's folder is small, a home folder is not searched."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [
            entry.name for entry, _ in zip(entries, range(_FILES_IN_FOLDER_LIMIT), strict=False) if entry.is_file()
        ]
    return [folder / name for name in sorted(names) if is_model(folder / name)]


def _top_level_fields(content: mmap.mmap) -> Iterator[int]:
    """Field numbers of a protobuf message, in order.

    Raises:
        ValueError: it is no such message, or not one that ONNX defines.
        IndexError: it ends within a field.
    """
    position, end = 0, len(content)
    for _ in range(_TOP_LEVEL_FIELDS_LIMIT):
        if position == end:
            return
        tag, position = _varint(content, position)
        field, wire = tag >> 3, tag & 7
        if not 0 < field < _FIELD_LIMIT:
            raise ValueError("not a field of ModelProto")
        if wire == _WIRE_VARINT:
            _, position = _varint(content, position)
        elif wire == _WIRE_BYTES:
            length, position = _varint(content, position)
            position += length
        elif wire in (_WIRE_FIXED64, _WIRE_FIXED32):
            position += 8 if wire == _WIRE_FIXED64 else 4
        else:
            raise ValueError("not a wire type")
        if position > end:
            raise IndexError("ends within a field")
        yield field
    raise ValueError("too many fields")


def _varint(content: mmap.mmap, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("varint too long")


def _parse(path: Path) -> onnx.ModelProto:
    import onnx

    try:
        model = onnx.load_model(path, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError; importing it would add an untyped module for one name
        raise InvalidConfiguration(f"{path} cannot be read as ONNX: {error}") from error
    shapeless = [value.name for value in model.graph.input if not value.type.tensor_type.HasField("shape")]
    given = {tensor.name for tensor in model.graph.initializer}
    if missing := [name for name in shapeless if name not in given]:
        raise InvalidConfiguration(
            f"{path}: input {missing[0]!r} does not say how many axes it has; export the model with input shapes"
        )
    return model


def _external_weights(model: onnx.ModelProto, model_file: Path) -> dict[str, Path]:
    """Files beside the model that hold weights: path in the bundle → file.

    Raises:
        InvalidConfiguration: one is absent, or lies outside the model's folder, also by a symbolic link.
    """
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    folder = model_file.parent.resolve()
    found: dict[str, Path] = {}
    for tensor in _get_all_tensors(model):
        if not uses_external_data(tensor):
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        pure = PurePosixPath(location)
        if not location or pure.is_absolute() or ".." in pure.parts or "\\" in location:
            raise InvalidConfiguration(
                f"{model_file}: weights of {tensor.name!r} lie at {location!r};"
                " expected a path inside the model's folder"
            )
        place = folder / pure
        resolved = place.resolve()
        if not resolved.is_relative_to(folder):
            raise InvalidConfiguration(
                f"{model_file}: {location!r} is a link out of the model's folder; copy the file there"
            )
        if not resolved.is_file():
            raise InvalidConfiguration(f"{model_file}: its weights file {location!r} is missing beside it")
        if str(pure) in _RESERVED:
            raise InvalidConfiguration(
                f"{model_file}: its weights file cannot be called {location!r}; export it under another"
            )
        found[str(pure)] = resolved
    return found


def drop_zip_maps(model: onnx.ModelProto) -> list[str]:
    """Replace outputs that are lists of maps, as older converters make them, by the tensor they are made from.

    Returns:
        the names of the outputs changed.
    """
    import onnx

    outputs = {output.name: output for output in model.graph.output}
    changed = []
    for node in model.graph.node:
        if node.op_type != "ZipMap" or node.domain != "ai.onnx.ml" or node.output[0] not in outputs:
            continue
        classes = sum(len(attribute.ints) + len(attribute.strings) for attribute in node.attribute)
        replacement = onnx.helper.make_node("Identity", list(node.input), list(node.output), name=node.name)
        plain = onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, [None, classes])
        node.CopyFrom(replacement)
        outputs[node.output[0]].CopyFrom(plain)
        changed.append(node.output[0])
    return changed


def _rewrite(model: onnx.ModelProto, model_file: Path, weights: dict[str, Path], workdir: Path) -> Path:
    artifact = workdir / ARTIFACT
    artifact.write_bytes(model.SerializeToString(deterministic=True))
    for path, place in weights.items():  # beside the new file, for the engine to find
        (workdir / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(place, workdir / path)
    return artifact


def precision_of(model: onnx.ModelProto) -> str:
    """The weights' precision: ``int4`` or ``int8`` where the graph is quantised, else the commonest float type."""
    from onnx import TensorProto

    names = {
        TensorProto.FLOAT: "fp32",
        TensorProto.FLOAT16: "fp16",
        TensorProto.BFLOAT16: "bf16",
        TensorProto.DOUBLE: "fp64",
    }
    operators = {node.op_type for node in _nodes(model.graph)}
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    if "MatMulNBits" in operators or kinds & {TensorProto.INT4, TensorProto.UINT4}:
        return "int4"
    if operators & _QUANTISED and kinds & {TensorProto.INT8, TensorProto.UINT8}:
        return "int8"
    counts: collections.Counter[str] = collections.Counter()
    for tensor in model.graph.initializer:
        if tensor.data_type in names:
            counts[names[tensor.data_type]] += _element_count(tensor.dims)
    return max(sorted(counts), key=counts.__getitem__) if counts else "fp32"


def _element_count(lengths: Any) -> int:
    count = 1
    for length in lengths:
        count *= length
    return count


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") or attribute.graphs else ():
                yield from _nodes(inner)
