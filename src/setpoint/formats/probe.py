"""What a graph really does, found by running it: whether it has a batch axis, and what shape its answers have.

Symbolic axis names are not believed. A model is *batched* when the first axis of every input is free and, in every run,
every output has one row per input row, and that row is the one it gives when it is asked about the row alone. Anything
else is served one request at a time, which is always right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec
from numpy.typing import NDArray

from setpoint.core import FREE, InvalidConfiguration, ModelError, Signature, TensorSpec
from setpoint.engines import Arrays, DeclaredTensor, EngineOptions, load_onnx
from setpoint.formats import inputs as made
from setpoint.formats.equivalence import Tolerance, closeness, compare, tolerance_for

Run = Callable[[Arrays], dict[str, NDArray[Any]]]

_SAMPLE_ROWS_LIMIT = 8  # of the user's sample, each also computed alone
_OTHER_LENGTHS = (16, 8, 4, 2, 32)
SHARED_RANGE = Tolerance(0.1, 0.1)
"""Graphs that quantise activations as they run take one range for the whole batch, so rows move each other slightly."""


class Probe(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        signature: as observed.
        checks: what was compared, in words.
    """

    signature: Signature
    checks: tuple[str, ...]


def probe(
    artifact: Path,
    sample: Path | None = None,
    *,
    rows: Arrays | None = None,
    origin: str = "made-up rows",
    shares_range: bool = False,
) -> Probe:
    """Run an ``.onnx`` file and describe it.

    Args:
        artifact: the model file.
        sample: the user's ``.npz``.
        rows: input that is known to run. Made-up input is used where neither is given.
        origin: of ``rows``, in words.
        shares_range: the graph quantises activations as it runs, so a looser tolerance holds between rows.

    Raises:
        InvalidConfiguration: it cannot be loaded, or no input was found on which it runs.
    """
    try:
        executable = load_onnx(artifact, EngineOptions(), quiet=True)
    except ModelError as error:
        raise InvalidConfiguration(error.message) from error
    return probe_loaded(executable, sample, rows=rows, origin=origin, shares_range=shares_range)


class Loaded(Protocol):
    """A loaded model that tells what it declares."""

    inputs: tuple[DeclaredTensor, ...]
    outputs: tuple[DeclaredTensor, ...]

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Compute every output."""
        ...


def probe_loaded(
    executable: Loaded,
    sample: Path | None = None,
    *,
    rows: Arrays | None = None,
    origin: str = "made-up rows",
    shares_range: bool = False,
) -> Probe:
    """Run a loaded model of any engine and describe it; arguments as for ``probe``.

    Raises:
        InvalidConfiguration: no input was found on which it runs.
    """
    try:
        if sample is not None:
            rows, origin = made.read_sample(sample, executable.inputs), f"rows of {sample.name}"
        given, shape = (dict(rows), None) if rows is not None else _find(executable)
        signature, verdict = _describe(
            executable.run, executable.inputs, executable.outputs, given, shape, shares_range
        )
        kind = "batched" if signature.batched else "unbatched"
        return Probe(signature, (f"{kind} on {origin}: {verdict}",))
    except ModelError as error:
        hint = "" if sample is None else f" (on the rows of {sample})"
        raise InvalidConfiguration(f"{error}{hint}") from error


def _find(executable: Any) -> tuple[dict[str, NDArray[Any]], made.Shape]:
    """Made-up input on which the model runs."""
    last = "nothing to try"
    for shape in made.shapes_to_try(executable.inputs):
        arrays = made.make_up(executable.inputs, shape, seed=0)
        try:
            executable.run(arrays)
        except ModelError as error:
            last = str(error)
            continue
        return arrays, shape
    takes = ", ".join(str(tensor.spec) for tensor in executable.inputs)
    raise InvalidConfiguration(
        f"no made-up input runs through this model ({takes}); give real rows:"
        f" --sample rows.npz with one array per input. The last try said: {last}"
    )


def _describe(
    run: Run,
    declared_inputs: tuple[DeclaredTensor, ...],
    declared_outputs: tuple[DeclaredTensor, ...],
    arrays: dict[str, NDArray[Any]],
    shape: made.Shape | None,
    shares_range: bool,
) -> tuple[Signature, str]:
    """The signature, and why it is batched or not."""
    trials = [arrays, *(_other_trials(run, declared_inputs, shape) if shape else _fewer_rows(declared_inputs, arrays))]
    answers = [run(trial) for trial in trials]
    verdict = "not every input has a free first axis"
    batched = _may_be_batched(declared_inputs)
    if batched:
        verdict, batched = _judge_rows(run, trials, answers, shares_range)
    specs = tuple(
        _observed(tensor, [answer[tensor.name] for answer in answers], batched) for tensor in declared_outputs
    )
    return Signature(tuple(tensor.spec for tensor in declared_inputs), specs, batched), verdict


def _other_trials(
    run: Run, tensors: tuple[DeclaredTensor, ...], shape: made.Shape
) -> Iterator[dict[str, NDArray[Any]]]:
    """Input of other values and another number of rows, and of another length for each inner axis, where that runs."""
    candidates = [
        [shape],
        *([_with_length(shape, name, length) for length in _OTHER_LENGTHS] for name in shape.lengths),
    ]
    for seed, alternatives in enumerate(candidates, start=1):
        for alternative in alternatives:
            arrays = made.make_up(tensors, msgspec.structs.replace(alternative, rows=2), seed)
            try:
                run(arrays)
            except ModelError:
                continue
            yield arrays
            break


def _fewer_rows(tensors: tuple[DeclaredTensor, ...], arrays: Arrays) -> Iterator[dict[str, NDArray[Any]]]:
    """Of given rows, the first half, so that another number of rows is seen."""
    most = max((len(array) for array in arrays.values() if array.ndim), default=0)
    if _may_be_batched(tensors) and most > 1:
        yield made.take(arrays, slice(0, most // 2))


def _may_be_batched(tensors: tuple[DeclaredTensor, ...]) -> bool:
    return bool(tensors) and all(tensor.axes and made.is_free(tensor.axes[0]) for tensor in tensors)


def _with_length(shape: made.Shape, name: str, length: int) -> made.Shape:
    other = length if length != shape.lengths[name] else 2 * length
    return msgspec.structs.replace(shape, lengths={**shape.lengths, name: other})


def _judge_rows(
    run: Run, trials: list[dict[str, NDArray[Any]]], answers: list[dict[str, NDArray[Any]]], shares_range: bool
) -> tuple[str, bool]:
    """Whether rows computed together are the rows computed alone. Returns the finding in words, and yes or no."""
    worst = 0.0
    compared = 0
    again = run(trials[0])
    if any(not compare(answers[0][name], again[name], tolerance_for(again[name])).within for name in again):
        return "answers change from run to run, so rows cannot be compared", False
    for arrays, together in zip(trials, answers, strict=True):
        counts = {len(array) for array in arrays.values()}
        if len(counts) != 1:
            return "inputs have different numbers of rows", False
        (rows,) = counts
        for name, output in together.items():
            if not output.ndim or len(output) != rows:
                return f"output {name!r} has not one row per input row", False
        for part in _parts(min(rows, _SAMPLE_ROWS_LIMIT)):
            try:
                alone = run(made.take(arrays, part))
            except ModelError as error:
                return f"{_rows(part)} of {rows} cannot be computed alone ({error})", False
            for name, output in alone.items():
                tolerance = tolerance_for(output)
                if shares_range and tolerance.relative:
                    tolerance = SHARED_RANGE
                difference = compare(together[name][part], output, tolerance)
                if not difference.within:
                    return f"output {name!r} of {_rows(part)} depends on the other rows of its batch", False
                worst = max(worst, difference.worst_of_scale)
                compared += part.stop - part.start
    if all(len(next(iter(arrays.values()))) < 2 for arrays in trials):
        return "no two rows could be computed together; a sample of several rows may show that it is batched", False
    shared = ", one quantisation range per batch" if shares_range else ""
    return f"rows together are the rows alone {closeness(worst)} ({compared} rows compared{shared})", True


def _parts(rows: int) -> list[slice]:
    """Every row alone, and two groups, so that other row counts are seen too."""
    singles = [slice(row, row + 1) for row in range(rows)]
    groups = [slice(0, rows // 2 + 1), slice(1, rows)] if rows > 2 else []
    return singles + groups


def _rows(part: slice) -> str:
    return f"row {part.start}" if part.stop - part.start == 1 else f"rows {part.start} to {part.stop - 1}"


def _observed(declared: DeclaredTensor, answers: list[NDArray[Any]], batched: bool) -> TensorSpec:
    """An output as it came: free where it was declared so or seen to vary, else as long as it was in every run.

    Raises:
        InvalidConfiguration: the rank changes from run to run, which no signature can say.
    """
    ranks = {answer.ndim for answer in answers}
    if len(ranks) != 1:
        raise InvalidConfiguration(f"output {declared.name!r} has a varying number of axes ({sorted(ranks)})")
    (rank,) = ranks
    honest = len(declared.axes) == rank
    lengths = []
    for position in range(rank):
        seen = {answer.shape[position] for answer in answers}
        if honest:
            axis = declared.axes[position]
            lengths.append(seen.pop() if isinstance(axis, int) and len(seen) == 1 else FREE)
        else:
            lengths.append(seen.pop() if len(seen) == 1 else FREE)
    if batched:
        lengths[0] = FREE
    return TensorSpec(declared.name, declared.datatype, tuple(lengths))
