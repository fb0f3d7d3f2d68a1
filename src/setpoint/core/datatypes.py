"""The one table that relates Open Inference Protocol datatypes to numpy dtypes.

Source: Open Inference Protocol V2, "Tensor Data Types"; BF16 as in Triton's extension of it.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import msgspec
import numpy as np

from setpoint.core.errors import InvalidConfiguration


class Datatype(msgspec.Struct, frozen=True):
    """One row of the table.

    Attributes:
        name: the V2 name, such as ``FP32``.
        dtype: the numpy dtype, little-endian. BYTES elements are Python ``bytes`` in an ``object`` array.
        itemsize_bytes: bytes of one element on the wire; 0 for BYTES, whose elements carry their own length.
        json_number: whether JSON has a form for it. FP16 and BF16 travel as binary only (V2 specification).
    """

    name: str
    dtype: np.dtype[Any]
    itemsize_bytes: int
    json_number: bool = True

    @property
    def is_float(self) -> bool:
        """Whether elements are floating point, so that NaN exists."""
        return self.name in ("FP16", "BF16", "FP32", "FP64")

    @property
    def is_integer(self) -> bool:
        """Whether elements are signed or unsigned integers."""
        return self.dtype.kind in "iu"


def _row(name: str, numpy_type: Any, *, json_number: bool = True) -> Datatype:
    dtype = np.dtype(numpy_type)
    return Datatype(name, dtype, 0 if dtype.hasobject else dtype.itemsize, json_number)


DATATYPES: dict[str, Datatype] = {
    row.name: row
    for row in (
        _row("BOOL", np.bool_),
        _row("UINT8", np.uint8),
        _row("UINT16", np.uint16),
        _row("UINT32", np.uint32),
        _row("UINT64", np.uint64),
        _row("INT8", np.int8),
        _row("INT16", np.int16),
        _row("INT32", np.int32),
        _row("INT64", np.int64),
        _row("FP16", np.float16, json_number=False),
        _row("BF16", ml_dtypes.bfloat16, json_number=False),
        _row("FP32", np.float32),
        _row("FP64", np.float64),
        _row("BYTES", np.object_),
    )
}
"""Every datatype Setpoint knows, by its V2 name."""

_BY_DTYPE: dict[np.dtype[Any], Datatype] = {row.dtype: row for row in DATATYPES.values()}


def datatype_of(dtype: np.dtype[Any]) -> Datatype:
    """Return the table's row for a numpy dtype; any string dtype (``S``, ``U``, ``O``, ``T``) is BYTES.

    Raises:
        InvalidConfiguration: the dtype has no V2 datatype (complex numbers, dates).
    """
    if dtype.kind in "SUOT":
        return DATATYPES["BYTES"]
    row = _BY_DTYPE.get(dtype.newbyteorder("="))
    if row is None:
        raise InvalidConfiguration(
            f"dtype {dtype} has no Open Inference Protocol datatype; expected one of {', '.join(DATATYPES)}"
        )
    return row
