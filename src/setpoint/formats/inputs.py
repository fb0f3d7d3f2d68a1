"""Inputs to try a model with: from the user's sample, or made up until something runs.

A graph says less than it needs: ``[batch, seq]`` does not tell that ``seq`` may not exceed 512, nor ``int64`` that the
values index a vocabulary. So lengths and values are tried, the likely ones first, the same length wherever the graph
uses the same symbol.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import DATATYPES, InvalidConfiguration
from setpoint.engines import Arrays, DeclaredTensor

ROWS = 5
"""Rows of a made-up batch: prime, and unlike the lengths tried, so that axes are not mistaken for each other."""

_SAME_LENGTH = (
    (5, 8),
    (5, 16),
    (5, 1),
    (1, 1),
    (5, 32),
    (5, 64),
    (5, 224),
    (5, 5),
    (1, 8),
    (1, 16),
    (1, 32),
    (1, 64),
    (1, 224),
    (1, 128),
    (1, 512),
)
_MIXED_LENGTHS = (8, 16, 1, 32, 64, 224)
_MIXED_SYMBOLS_LIMIT = 3
_ELEMENT_LIMIT = 1 << 24
_INTEGERS_BELOW = (10, 2, 1)
_WORDS = ("yes", "no", "hello world", "Setpoint", "a", "1", "two words", "")


class Shape(msgspec.Struct, frozen=True):
    """One try.

    Attributes:
        rows: length of first axes that are free.
        lengths: of the other free axes, by symbol.
        integers_below: made-up integers are 0 or more, and below this.
    """

    rows: int
    lengths: dict[str, int]
    integers_below: int

    def of(self, tensor: DeclaredTensor) -> tuple[int, ...]:
        """The shape this try gives a tensor."""
        return tuple(self._length(tensor, position) for position in range(len(tensor.axes)))

    def _length(self, tensor: DeclaredTensor, position: int) -> int:
        axis = tensor.axes[position]
        if isinstance(axis, int) and axis >= 0:
            return axis
        return self.rows if position == 0 else self.lengths[symbol(tensor, position)]


def symbol(tensor: DeclaredTensor, position: int) -> str:
    """What ties a free axis to others of equal length: its name in the graph; an unnamed one stands alone."""
    axis = tensor.axes[position]
    return axis if isinstance(axis, str) and axis else f"{tensor.name}[{position}]"


def is_free(axis: int | str | None) -> bool:
    """Whether an axis has no fixed length."""
    return not (isinstance(axis, int) and axis >= 0)


def shapes_to_try(tensors: tuple[DeclaredTensor, ...]) -> Iterator[Shape]:
    """Tries, the most telling first."""
    first = {symbol(tensor, 0) for tensor in tensors if tensor.axes and is_free(tensor.axes[0])}
    inner = inner_symbols(tensors)
    has_integers = any(DATATYPES[tensor.datatype].is_integer for tensor in tensors)
    lengths: list[tuple[int, tuple[int, ...]]] = [(rows, (length,) * len(inner)) for rows, length in _SAME_LENGTH]
    if 1 < len(inner) <= _MIXED_SYMBOLS_LIMIT:
        lengths += [(1, mixed) for mixed in itertools.product(_MIXED_LENGTHS, repeat=len(inner)) if len(set(mixed)) > 1]
    seen = set()
    for (rows, by_symbol), below in itertools.product(lengths, _INTEGERS_BELOW if has_integers else (1,)):
        # An inner axis of the same symbol as a first axis has as many elements as there are rows.
        tied = {name: rows if name in first else length for name, length in zip(inner, by_symbol, strict=True)}
        key = (rows if first else 0, tuple(tied.items()), below)
        shape = Shape(rows, tied, below)
        if key not in seen and all(math.prod(shape.of(tensor)) <= _ELEMENT_LIMIT for tensor in tensors):
            seen.add(key)
            yield shape


def inner_symbols(tensors: tuple[DeclaredTensor, ...]) -> tuple[str, ...]:
    """The symbols of free axes other than first ones, in order."""
    found = [
        symbol(tensor, position)
        for tensor in tensors
        for position in range(1, len(tensor.axes))
        if is_free(tensor.axes[position])
    ]
    return tuple(dict.fromkeys(found))


def make_up(tensors: tuple[DeclaredTensor, ...], shape: Shape, seed: int) -> dict[str, NDArray[Any]]:
    """Arrays of a given shape, rows all different; the same for the same seed.

    Even seeds draw floats from a normal distribution, odd ones evenly between 0 and 1.
    """
    random = np.random.default_rng(seed)
    return {tensor.name: _make_up_one(tensor, shape, random, seed % 2 == 0) for tensor in tensors}


def _make_up_one(tensor: DeclaredTensor, shape: Shape, random: np.random.Generator, normal: bool) -> NDArray[Any]:
    lengths, kind = shape.of(tensor), DATATYPES[tensor.datatype]
    if kind.name == "BYTES":
        words = np.empty(math.prod(lengths), np.object_)
        words[:] = [_WORDS[index].encode() for index in random.integers(0, len(_WORDS), len(words))]
        return words.reshape(lengths)
    if kind.is_float:
        return (random.standard_normal(lengths) if normal else random.random(lengths)).astype(kind.dtype)
    if kind.name == "BOOL":
        return random.random(lengths) < 0.5
    return _integers(tensor.name.lower(), lengths, shape.integers_below, random).astype(kind.dtype)


def _integers(name: str, lengths: tuple[int, ...], below: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Integers that mean something: a name may make them likelier to be valid, it never decides what a model is."""
    if not lengths:
        return np.int64(1) + np.zeros((), np.int64)
    if "mask" in name:  # at least one position stays visible, and rows see different numbers of positions
        visible = random.integers(1, lengths[-1] + 1, lengths[:-1]) if lengths[-1] else np.zeros(lengths[:-1], np.int64)
        return (np.arange(lengths[-1]) < visible[..., None]).astype(np.int64)
    if "position" in name:
        return np.broadcast_to(np.arange(lengths[-1]), lengths).copy()
    return random.integers(0, below, lengths)


def read_sample(path: Path, tensors: tuple[DeclaredTensor, ...]) -> dict[str, NDArray[Any]]:
    """The user's ``.npz``: one array per input, converted to the input's datatype where nothing is lost.

    Raises:
        InvalidConfiguration: unreadable, other names, other ranks or lengths, or values that do not fit.
    """
    arrays = load_npz(path)
    names = [tensor.name for tensor in tensors]
    if len(arrays) == len(names) == 1:
        arrays = {names[0]: next(iter(arrays.values()))}  # one of each: the name can only mean that
    if set(arrays) != set(names):
        raise InvalidConfiguration(
            f"sample {path} holds {', '.join(sorted(arrays)) or 'nothing'}; expected one array for each of"
            f" {', '.join(names)}: numpy.savez({path.name!r}, {names[0]}=…)"
        )
    return {tensor.name: fit(path, tensor, arrays[tensor.name]) for tensor in tensors}


def load_npz(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz``; pickled objects inside are refused.

    Raises:
        InvalidConfiguration: it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InvalidConfiguration(f"sample {path} cannot be read as .npz: {error}") from error


def fit(path: Path, tensor: DeclaredTensor, array: NDArray[Any]) -> NDArray[Any]:
    """An array of a user's ``.npz`` as the tensor's datatype.

    Raises:
        InvalidConfiguration: another rank, other lengths, or values that do not fit.
    """
    expected = f"sample {path}, {tensor.name}: expected {tensor.spec}"
    if len(array.shape) != len(tensor.axes) or any(
        not is_free(axis) and axis != length for axis, length in zip(tensor.axes, array.shape, strict=False)
    ):
        raise InvalidConfiguration(f"{expected}, got shape {list(array.shape)}")
    if tensor.datatype == "BYTES":
        if array.dtype.kind not in "SU":
            raise InvalidConfiguration(f"{expected}, got {array.dtype}; give an array of strings")
        encoded = np.empty(array.size, np.object_)
        encoded[:] = [word.encode() if isinstance(word, str) else word for word in array.ravel().tolist()]
        return encoded.reshape(array.shape)
    dtype = DATATYPES[tensor.datatype].dtype
    if array.dtype.kind not in "biuf":
        raise InvalidConfiguration(f"{expected}, got {array.dtype}")
    with np.errstate(invalid="ignore", over="ignore"):
        fitted = array.astype(dtype)
    # A float may lose digits (data is float64, models take float32); an integer may not change.
    if not DATATYPES[tensor.datatype].is_float and not np.array_equal(fitted, array):
        raise InvalidConfiguration(f"{expected}, got {array.dtype} values that do not fit")
    return fitted


def take(arrays: Arrays, rows: slice) -> dict[str, NDArray[Any]]:
    """Some rows of every array."""
    return {name: array[rows] for name, array in arrays.items()}
