"""What packing boosted trees has in common: an ONNX graph that is equal and quicker, else the library itself.

Which is quicker is measured with the model itself, for a row alone and for a batch: one row is mostly quicker as ONNX,
large batches of many trees mostly in the library.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import ConversionMismatch, InvalidConfiguration, Lineage, ModelError
from setpoint.engines import Arrays, EngineOptions, boosters, load_onnx
from setpoint.formats.base import NATIVE, ONNX, PackedModel, PackOptions
from setpoint.formats.choice import Comparison, compare_speed, remembered
from setpoint.formats.forest import Thresholds, telling_rows
from setpoint.formats.inputs import read_sample
from setpoint.formats.probe import Loaded, probe, probe_loaded
from setpoint.formats.proof import Trial, by_size, prove
from setpoint.formats.tensor_model import ARTIFACT, source_digest, tensor_manifest

_REMEDY = "please report it, with the model if you can"
_SAMPLE_ROWS_LIMIT = 2000
_MEASURED_ROWS = (1, 64)
_MARGIN = 0.1
"""How much quicker the library must be: the engine that most models share is to be left for a reason."""


class Booster(Loaded, Protocol):
    """A model loaded by its own library."""

    task: boosters.Task


class Source(msgspec.Struct, frozen=True):
    """A model as its library reads it.

    Attributes:
        library: name of its format and engine.
        distributions: what reads it, for the lineage: the first that is installed is named with its version.
        path: the file.
        executable: loaded by its engine.
        suffix: of the artifact where the library serves it.
        thresholds: what its trees compare with, as far as it is known.
        graph: an ONNX model as bytes; None where there is no exact one.
        why_not: why there is no ONNX graph, in words.
        notes: what else the lineage tells.
    """

    library: str
    distributions: tuple[str, ...]
    path: Path
    executable: Any
    suffix: str
    thresholds: Thresholds = {}
    graph: bytes | None = None
    why_not: str = ""
    notes: tuple[str, ...] = ()


def pack_booster(source: Source, options: PackOptions, workdir: Path) -> PackedModel:
    """Prove the conversion if there is one, choose who answers, and describe the model.

    Raises:
        InvalidConfiguration: nothing runs through it, or ONNX was asked for and there is no equal graph.
    """
    trials = list(_trials(source, options))
    checks = list(source.notes)
    artifact = workdir / ARTIFACT
    why_not = "it was asked for (--engine native)" if options.engine == NATIVE else source.why_not
    if source.graph is not None and not why_not:
        artifact.write_bytes(source.graph)
        try:
            checks += _proven(source, artifact, trials)
        except ConversionMismatch as error:
            # Not the user's to mend: the library itself answers as it does.
            why_not = f"its ONNX conversion is not equal: {error.message.partition('; ' + _REMEDY)[0]}"
        else:
            why_not, told = ("", "") if options.engine == ONNX else _chosen(source, artifact, trials[0].arrays)
            checks += [told] if told else []
    if options.engine == ONNX and why_not:
        raise InvalidConfiguration(f"--engine onnx: {why_not}")
    tools = _versions(source, converted=not why_not)
    if why_not:
        checks.append(f"served by {source.library} itself: {why_not}")
    rows, origin = trials[0].arrays, trials[0].origin
    found = (
        probe_loaded(source.executable, rows=rows, origin=origin)
        if why_not
        else probe(artifact, rows=rows, origin=origin)
    )
    lineage = Lineage(source.library, source_digest(source.path), tools, (*checks, *found.checks))
    suggested = source.path.resolve().stem
    if not why_not:
        return PackedModel(tensor_manifest(found.signature, "fp32", lineage), {ARTIFACT: artifact}, suggested)
    name = f"model{source.suffix}"
    manifest = tensor_manifest(found.signature, "fp32", lineage, engine=source.library, artifact=name)
    return PackedModel(manifest, {name: source.path}, suggested)


def _chosen(source: Source, artifact: Path, rows: Arrays) -> tuple[str, str]:
    """Why the library answers and not the graph, empty where the graph does; and what was measured, where that is no
    reason."""
    tools = [f"{name} {version}" for name, version in _versions(source, converted=True).items()]
    graph = hashlib.sha256(artifact.read_bytes()).hexdigest()

    def measure() -> Comparison:
        # Loaded here, since it was proven in a session that is gone; both with one thread.
        converted = load_onnx(artifact, EngineOptions(), quiet=True)
        batches = {size: _repeated(rows, size) for size in _MEASURED_ROWS}
        return compare_speed(
            lambda size: converted.run(batches[size]), lambda size: source.executable.run(batches[size]), _MEASURED_ROWS
        )

    found = remembered([source_digest(source.path), graph, *tools], measure)
    told = found.words("as ONNX", f"in {source.library}")
    if found.ratio < 1 - _MARGIN:
        return f"it is quicker than its ONNX twin ({told})", ""
    return "", f"{told}: ONNX answers"


def _repeated(rows: Arrays, size: int) -> dict[str, NDArray[Any]]:
    return {name: np.resize(array, (size, *array.shape[1:])) for name, array in rows.items()}


def _proven(source: Source, artifact: Path, trials: list[Trial]) -> list[str]:
    try:
        converted = load_onnx(artifact, EngineOptions(), quiet=True)
    except ModelError as error:
        raise ConversionMismatch(f"it cannot be loaded ({error})") from error
    ties = (boosters.LABEL, boosters.PROBABILITIES) if source.executable.task.labels else None
    what = f"the {source.library} model's ONNX conversion"
    asked = [part for trial in trials for part in by_size(trial.arrays, trial.origin)]
    return [prove(source.executable.run, converted.run, asked, what, remedy=_REMEDY, ties=ties)]


def _trials(source: Source, options: PackOptions) -> list[Trial]:
    executable = source.executable
    if options.sample is not None:
        arrays = read_sample(options.sample, executable.inputs)
        return [Trial({name: array[:_SAMPLE_ROWS_LIMIT] for name, array in arrays.items()}, "rows of the sample")]
    if boosters.INPUT not in {tensor.name for tensor in executable.inputs}:
        return [Trial(_mixed_rows(executable), "made-up rows")]
    columns = executable.task.columns
    trials = [
        Trial({boosters.INPUT: telling_rows(source.thresholds, columns)}, "rows made up on and beside thresholds"),
        Trial({boosters.INPUT: telling_rows(source.thresholds, columns, holes=True)}, "such rows with missing values"),
    ]
    taken = [trial for trial in trials if _takes(executable.run, trial.arrays)]
    if not taken:
        raise InvalidConfiguration(
            f"{source.path}: the model takes none of the made-up rows; give real ones: --sample rows.npz with one array"
        )
    return taken


def _takes(run: Any, arrays: Arrays) -> bool:
    try:
        run(arrays)
    except ModelError:
        return False
    return True


def _mixed_rows(executable: Any, rows: int = 32) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(0)
    words = np.array([b"a", b"b", b"1", b"0", b"yes", b""], np.object_)
    return {
        tensor.name: random.choice(words, rows)
        if tensor.datatype == "BYTES"
        else random.standard_normal(rows).astype(np.float32)
        for tensor in executable.inputs
    }


def _versions(source: Source, *, converted: bool) -> dict[str, str]:
    tools = {}
    for name in source.distributions:
        try:
            tools[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        break
    if converted:
        tools |= {name: importlib.metadata.version(name) for name in ("onnx", "onnxruntime")}
    return tools
