"""Rows for a model of known signature, for those who measure it: the user's, or made up until it takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import FREE, InvalidConfiguration, ModelError, Signature, TensorSpec
from setpoint.engines import DeclaredTensor, EngineOptions, load_onnx
from setpoint.formats import inputs as made

_SEED = 0


def read_rows(path: Path, signature: Signature) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """The arrays of an ``.npz``: those that are inputs, fitted to the signature, and all others as they are.

    A single array under any name is the input of a model that has one.

    Raises:
        InvalidConfiguration: unreadable, an input is missing, or an array does not fit; says what was expected.
    """
    found = made.load_npz(path)
    names = [spec.name for spec in signature.inputs]
    if len(names) == len(found) == 1:
        found = {names[0]: next(iter(found.values()))}
    if any(name not in found for name in names):
        raise InvalidConfiguration(
            f"{path} holds {', '.join(sorted(found)) or 'nothing'}; expected an array for each of {', '.join(names)}"
        )
    fitted = {spec.name: made.fit(path, _declared(spec), found.pop(spec.name)) for spec in signature.inputs}
    return fitted, found


def made_up_rows(artifact: Path, rows: int, length: int | None = None) -> dict[str, NDArray[Any]]:
    """Made-up input on which an ``.onnx`` file runs.

    Args:
        artifact: the model file.
        rows: length of free first axes.
        length: of other free axes; the first that runs without.

    Raises:
        InvalidConfiguration: it cannot be loaded, or nothing runs.
    """
    try:
        executable = load_onnx(artifact, EngineOptions(), quiet=True)
    except ModelError as error:
        raise InvalidConfiguration(error.message) from error
    last = "nothing to try"
    for shape in made.shapes_to_try(executable.inputs):
        lengths = shape.lengths if length is None else dict.fromkeys(shape.lengths, length)
        wanted = msgspec.structs.replace(shape, rows=rows if shape.rows > 1 else shape.rows, lengths=lengths)
        arrays = made.make_up(executable.inputs, wanted, seed=_SEED)
        try:
            executable.run({name: array[:1] if array.ndim else array for name, array in arrays.items()})
        except ModelError as error:
            last = error.message
            continue
        return {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    raise InvalidConfiguration(f"no made-up input runs through {artifact.name}; give real rows. It said: {last}")


def _declared(spec: TensorSpec) -> DeclaredTensor:
    return DeclaredTensor(spec.name, spec.datatype, tuple(None if axis == FREE else axis for axis in spec.shape))
