"""Keras models (``.keras``, ``.h5``) and TensorFlow SavedModels: to ONNX by the SavedModel route, and proven.

The converter's direct way from Keras fails with Keras 3; a SavedModel it reads. Everything runs in the packing process,
the converter in one of its own.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from setpoint.core import ConversionMismatch, InvalidConfiguration, Lineage, MissingExtra, ModelError, UntrustedFile
from setpoint.engines import Arrays, DeclaredTensor, EngineOptions, load_onnx, one_line
from setpoint.formats import inputs as made
from setpoint.formats.base import PackedModel, PackOptions
from setpoint.formats.onnx import precision_of
from setpoint.formats.peek import first_bytes
from setpoint.formats.probe import probe
from setpoint.formats.proof import by_size, prove
from setpoint.formats.tensor_model import ARTIFACT, source_digest, tensor_manifest

_HDF5 = b"\x89HDF\r\n\x1a\n"
_KERAS_FILES = {"metadata.json", "config.json"}
_CONFIG_LIMIT_BYTES = 64 << 20
_OPSET = 17
_SIGNATURE = "serving_default"


class TensorflowFormat:
    """``.keras`` archives, Keras's ``.h5``, and SavedModel folders."""

    name = "tensorflow"

    def recognises(self, source: Path) -> bool:
        """Whether it is a SavedModel's folder, a Keras archive or an HDF5 file with a model's configuration."""
        if source.is_dir():
            return (source / "saved_model.pb").is_file() and (source / "variables").is_dir()
        return _is_archive(source) or _is_hdf5(source)

    def pack(self, source: Path, options: PackOptions, workdir: Path) -> PackedModel:
        """Convert and prove.

        Raises:
            MissingExtra: tensorflow or tf2onnx is not installed.
            UntrustedFile: a Keras file holds code (a Lambda layer).
            InvalidConfiguration: it cannot be loaded or converted.
            ConversionMismatch: the graph answers otherwise.
        """
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        try:
            import tensorflow
            import tf2onnx
        except ImportError as error:
            raise MissingExtra("tensorflow and tf2onnx", "tensorflow", f"packing {source.name}") from error
        folder = source if source.is_dir() else _saved(tensorflow, source, workdir / "saved_model", options.trust)
        try:
            loaded = tensorflow.saved_model.load(str(folder))
            function = loaded.signatures[_SIGNATURE]
        except KeyError:
            raise InvalidConfiguration(f"{source} has no signature {_SIGNATURE!r} to serve") from None
        except Exception as error:  # the library raises whatever it meets
            raise InvalidConfiguration(f"{source} cannot be loaded by TensorFlow: {one_line(error)}") from error
        artifact = workdir / ARTIFACT
        model = _convert(source, folder, artifact)

        def run(arrays: Arrays) -> dict[str, Any]:
            try:
                answers = function(**{name: tensorflow.constant(array) for name, array in arrays.items()})
            except Exception as error:
                raise ModelError(f"the model failed: {one_line(error)}") from error
            return {name: np.asarray(answer) for name, answer in answers.items()}

        try:
            converted = load_onnx(artifact, EngineOptions(), quiet=True)
        except ModelError as error:
            raise ConversionMismatch(f"{source}: its ONNX graph cannot be loaded ({error})") from error
        rows, origin = _rows(converted.inputs, options.sample, run)
        remedy = "wrap it in a Python class to serve it as it is"
        told = prove(run, converted.run, list(by_size(rows, origin)), "the ONNX conversion", remedy=remedy)
        found = probe(artifact, rows=rows, origin=origin)
        names = ("tensorflow", "tf2onnx", "onnxruntime")
        tools = {"tensorflow": tensorflow.__version__, "tf2onnx": tf2onnx.__version__}
        tools |= {names[2]: importlib.metadata.version(names[2])}
        lineage = Lineage(self.name, source_digest(source), tools, (told, *found.checks))
        manifest = tensor_manifest(found.signature, precision_of(model), lineage)
        stem = source.resolve().name if source.is_dir() else source.resolve().stem
        return PackedModel(manifest, {ARTIFACT: artifact}, stem)


def _is_archive(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            if not set(archive.namelist()) >= _KERAS_FILES:
                return False
            entry = archive.getinfo("metadata.json")
            return entry.file_size <= _CONFIG_LIMIT_BYTES and "keras_version" in json.loads(archive.read(entry))
    except (OSError, ValueError, TypeError, zipfile.BadZipFile, NotImplementedError):
        return False


def _is_hdf5(path: Path) -> bool:
    first = first_bytes(path, 1 << 16)
    return first.startswith(_HDF5) and (b"keras_version" in first or b"model_config" in first)


def _saved(tensorflow: Any, source: Path, folder: Path, trust: bool) -> Path:
    """A Keras file as a SavedModel."""
    try:
        # Safe mode refuses layers that are pickled code.
        model = tensorflow.keras.models.load_model(str(source), compile=False, safe_mode=not trust)
        model.export(str(folder), verbose=False)
    except Exception as error:  # the library raises whatever it meets
        if "safe_mode" in str(error) or "lambda" in str(error).lower():
            raise UntrustedFile(
                f"{source} holds a layer of pickled code, which can do anything. Add --trust if you know its origin"
            ) from error
        raise InvalidConfiguration(f"{source} cannot be loaded by Keras: {one_line(error)}") from error
    return folder


def _convert(source: Path, folder: Path, artifact: Path) -> Any:
    import onnx

    options = ["--saved-model", str(folder), "--output", str(artifact), "--opset", str(_OPSET)]
    # -P: as for the packing process itself, what lies in the current folder stands in for no library.
    command = [sys.executable, "-P", "-m", "tf2onnx.convert", *options, "--signature_def", _SIGNATURE]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode or not artifact.is_file():
        last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise InvalidConfiguration(f"{source} cannot be converted to ONNX: {last[:200]}")
    model = onnx.load_model(artifact)
    # TensorFlow numbers the outputs of each operator.
    names = {value.name: value.name.partition(":")[0] for value in (*model.graph.input, *model.graph.output)}
    for value in (*model.graph.input, *model.graph.output):
        value.name = names[value.name]
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    artifact.write_bytes(model.SerializeToString(deterministic=True))
    return model


def _rows(tensors: tuple[DeclaredTensor, ...], sample: Path | None, run: Any) -> tuple[dict[str, Any], str]:
    if sample is not None:
        return made.read_sample(sample, tensors), f"rows of {sample.name}"
    last = "nothing to try"
    for shape in made.shapes_to_try(tensors):
        arrays = made.make_up(tensors, shape, seed=0)
        try:
            run(arrays)
        except ModelError as error:
            last = error.message
            continue
        return arrays, "made-up rows"
    raise InvalidConfiguration(f"no made-up input runs through this model; give real rows: --sample. It said: {last}")
