"""Signatures, arrays of them, and JSON that strangers might send."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from setpoint.core import DATATYPES, FREE, Signature, TensorSpec
from setpoint.wire import BatchOutputs, InferRequest, NativeTensorCodec, V2Codec

JSON_DATATYPES = [name for name, datatype in DATATYPES.items() if datatype.json_number]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**18, 2**63, 2**64, -(2**63) - 1, 10**4000, 256, -1, 0])
    | st.floats()
    | st.sampled_from([1e39, 1e300, 65520.0, -0.0, 5e-324])
    | texts
    | st.sampled_from(["FP32", "BYTES", "x", "y", "id", "inputs"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def elements_of(datatype: str) -> st.SearchStrategy[Any]:
    """Elements as numpy holds them, NaN included and infinities not: JSON has no form for those."""
    dtype = DATATYPES[datatype].dtype
    if datatype == "BYTES":
        return texts.map(str.encode)
    if datatype == "BF16":
        return st.integers(0, 2**16 - 1).map(bfloat16_of_bits).filter(lambda value: not np.isinf(float(value)))
    if dtype.kind == "f":
        return npst.from_dtype(dtype, allow_infinity=False)
    return npst.from_dtype(dtype)


def bfloat16_of_bits(bits: int) -> Any:
    """Every value, and one NaN: casting a signalling one is an error of its own."""
    if bits & 0x7FFF > 0x7F80:
        return ml_dtypes.bfloat16("nan")
    return np.array([bits], np.uint16).view(ml_dtypes.bfloat16)[0]


@st.composite
def arrays(draw: st.DrawFn, datatype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    count = int(np.prod(shape))
    values = draw(st.lists(elements_of(datatype), min_size=count, max_size=count))
    array = np.empty(count, DATATYPES[datatype].dtype)
    for index, value in enumerate(values):
        array[index] = value
    return array.reshape(shape)


@st.composite
def tensors(
    draw: st.DrawFn, datatypes: list[str], rows: int | None = None, min_side: int = 0
) -> tuple[TensorSpec, NDArray[Any]]:
    """A declared tensor and an array of it: fixed and free axes, scalars, axes of length 0."""
    inner = tuple(draw(st.lists(st.integers(min_side, 3), max_size=3)))
    shape = inner if rows is None else (rows, *inner)
    declared = [FREE if draw(st.booleans()) else length for length in shape]
    if rows is not None:
        declared[0] = FREE
    datatype = draw(st.sampled_from(datatypes))
    name = draw(st.sampled_from(["x", 'a "quoted" name', "été", "input:0", "\\"]))
    return TensorSpec(name, datatype, tuple(declared)), draw(arrays(datatype, shape))


@st.composite
def models(
    draw: st.DrawFn, datatypes: list[str] = JSON_DATATYPES, min_side: int = 0
) -> tuple[Signature, list[NDArray[Any]]]:
    """A signature (its outputs are its inputs) and one array for each of its tensors."""
    batched = draw(st.booleans())
    rows = draw(st.integers(1, 3)) if batched else None
    drawn = draw(
        st.lists(tensors(datatypes, rows, min_side), min_size=1, max_size=3, unique_by=lambda pair: pair[0].name)
    )
    specs = tuple(spec for spec, _ in drawn)
    return Signature(specs, specs, batched), [array for _, array in drawn]


def plain(array: NDArray[Any]) -> Any:
    """Nested lists as JSON has them: NaN is null, 16-bit floats are their exact values, BYTES are text."""

    def value(element: Any) -> Any:
        if isinstance(element, list):
            return [value(one) for one in element]
        if isinstance(element, bytes):
            return element.decode()
        if isinstance(element, bool | int):
            return element
        return None if np.isnan(float(element)) else float(element)

    return value(array.tolist())


def read(values: Any, like: NDArray[Any]) -> NDArray[Any]:
    """Decoded JSON as an array of another's dtype and shape: what a client makes of an answer."""
    array = np.empty(like.size, like.dtype)
    flat = np.empty(like.size, object)
    flat[:] = list(leaves(values))
    for index, value in enumerate(flat):
        array[index] = np.nan if value is None else value.encode() if isinstance(value, str) else value
    return array.reshape(like.shape)


def leaves(values: Any) -> Iterator[Any]:
    if isinstance(values, list):
        for value in values:
            yield from leaves(value)
    else:
        yield values


def same(left: NDArray[Any], right: NDArray[Any]) -> bool:
    """Equal in dtype, shape and every element; NaN equals NaN, and 0.0 is not -0.0."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    if left.dtype.hasobject:
        return bool(left.tolist() == right.tolist())
    if left.dtype.kind in "fV":
        wide, other = left.astype(np.float64), right.astype(np.float64)
        return bool(
            np.array_equal(wide, other, equal_nan=True)
            and not np.any((np.signbit(wide) != np.signbit(other)) & ~np.isnan(wide))
        )
    return bool(np.array_equal(left, right))


def write(codec: V2Codec | NativeTensorCodec, request: InferRequest, outputs: Sequence[NDArray[Any]]) -> bytes:
    """The response to a request that ran alone."""
    return codec.encode(request, BatchOutputs(outputs, together=False), 0, request.rows)


def dumps(value: Any) -> bytes:
    """JSON by the standard library: NaN and Infinity where they stand, and lone surrogates as they come."""
    return json.dumps(value).encode("utf-8", "surrogatepass")
