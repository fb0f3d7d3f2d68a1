"""What to send: the user's rows or bodies, and rows that are made up from a signature."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from setpoint.core import FREE, InvalidConfiguration, TensorSpec

Arrays = Mapping[str, NDArray[Any]]
MADE_UP = 32
"""Different made-up requests: enough that a cache of answers would be seen as one, few enough to hold in memory."""
_FREE_IMAGE_LENGTH = 32
_IMAGE_AXES = 4
_WORDS = (b"yes", b"no", b"hello world", b"Setpoint", b"two words")


def read_lines(path: Path) -> list[bytes]:
    """The lines of a ``.jsonl`` file that are not blank; each is one JSON document.

    Raises:
        InvalidConfiguration: unreadable, empty, or a line is not JSON.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InvalidConfiguration(f"data {path} cannot be read: {error.strerror}") from error
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            msgspec.json.decode(line, type=msgspec.Raw)
        except msgspec.DecodeError as error:
            raise InvalidConfiguration(
                f"data {path} line {number}: expected one JSON document a line: {error}"
            ) from error
        lines.append(line.strip())
    if not lines:
        raise InvalidConfiguration(f"data {path} is empty; expected one JSON document a line")
    return lines


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz``; pickled objects inside are refused.

    Raises:
        InvalidConfiguration: it cannot be read, or holds nothing.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InvalidConfiguration(f"data {path} cannot be read as .npz: {error}") from error
    if not arrays or any(not array.ndim or not len(array) for array in arrays.values()):
        raise InvalidConfiguration(f"data {path}: expected arrays with rows on their first axis")
    return arrays


def fit(arrays: Arrays, specs: Sequence[TensorSpec], source: str) -> dict[str, NDArray[Any]]:
    """The inputs among some arrays, converted to their datatypes; others (labels) are left out.

    Raises:
        InvalidConfiguration: an input is missing, or does not fit.
    """
    if len(arrays) == len(specs) == 1:
        arrays = {specs[0].name: next(iter(arrays.values()))}  # one of each: the name can only mean that
    missing = [spec.name for spec in specs if spec.name not in arrays]
    if missing:
        raise InvalidConfiguration(
            f"{source} has no {', '.join(missing)}; the model takes {', '.join(map(str, specs))}, and it holds"
            f" {', '.join(arrays)}"
        )
    return {spec.name: _fit_one(arrays[spec.name], spec, source) for spec in specs}


def _fit_one(array: NDArray[Any], spec: TensorSpec, source: str) -> NDArray[Any]:
    inner_fits = len(array.shape) == len(spec.shape) and all(
        wanted in (FREE, length) for wanted, length in zip(spec.shape[1:], array.shape[1:], strict=True)
    )
    if not inner_fits:
        raise InvalidConfiguration(f"{source}, {spec.name}: expected {spec}, got shape {list(array.shape)}")
    if spec.datatype == "BYTES":
        if array.dtype.kind not in "SUO":
            raise InvalidConfiguration(f"{source}, {spec.name}: expected an array of strings, got {array.dtype}")
        return array.astype(object)
    wanted = spec.type.dtype
    if array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and not spec.type.is_float):
        raise InvalidConfiguration(f"{source}, {spec.name}: expected {spec}, got {array.dtype}")
    return array.astype(wanted)


def slices(arrays: Arrays, rows: int) -> list[dict[str, NDArray[Any]]]:
    """Requests of ``rows`` consecutive rows each; what is left over at the end is not sent.

    Raises:
        InvalidConfiguration: the arrays have different numbers of rows, or fewer than ``rows``.
    """
    counts = {len(array) for array in arrays.values()}
    if len(counts) > 1:
        raise InvalidConfiguration(f"the arrays have different numbers of rows: {sorted(counts)}")
    count = counts.pop()
    if count < rows:
        raise InvalidConfiguration(f"the data has {count} rows, a request takes {rows}")
    return [
        {name: array[start : start + rows] for name, array in arrays.items()}
        for start in range(0, count - rows + 1, rows)
    ]


def make_up(specs: Sequence[TensorSpec], rows: int, length: int, seed: int) -> list[dict[str, NDArray[Any]]]:
    """Requests with random values. Integers are 0 or 1, and 1 in masks: anything else may index beyond a table.

    Args:
        specs: of the inputs.
        rows: length of first axes that are free.
        length: of other free axes; images (four axes) have at least 32, for convolutions not to run out of pixels.
        seed: of the values.
    """
    random = np.random.default_rng(seed)
    if any(len(spec.shape) >= _IMAGE_AXES for spec in specs):
        length = max(length, _FREE_IMAGE_LENGTH)
    return [{spec.name: _make_up_one(spec, rows, length, random) for spec in specs} for _ in range(MADE_UP)]


def _make_up_one(spec: TensorSpec, rows: int, length: int, random: np.random.Generator) -> NDArray[Any]:
    shape = tuple(size if size != FREE else rows if axis == 0 else length for axis, size in enumerate(spec.shape))
    if spec.datatype == "BYTES":
        words = np.empty(math.prod(shape), object)
        words[:] = [_WORDS[index] for index in random.integers(0, len(_WORDS), len(words))]
        return words.reshape(shape)
    if spec.type.is_float:
        return random.random(shape).astype(spec.type.dtype)
    if "mask" in spec.name.lower():
        return np.ones(shape, spec.type.dtype)
    return random.integers(0, 2, shape).astype(spec.type.dtype)


def encode(value: Any) -> bytes:
    """JSON of nested lists and arrays; texts as strings."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    raise TypeError(f"cannot be sent as JSON: {type(value).__name__}")
