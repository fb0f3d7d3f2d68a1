"""JSON form of the types that are ours; msgspec knows all others."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec
import numpy as np
import orjson

from setpoint.authoring.audio import Audio
from setpoint.authoring.media import Image
from setpoint.authoring.tensor import array_form, array_schema, decode_array

SUPPORTED = (
    "str, int, float, bool, bytes, list, dict, T | None, Literal, Enum, msgspec.Struct, dataclass, TypedDict, "
    "np.ndarray, sp.Tensor[...], sp.Image, sp.Audio"
)
"""The annotations an endpoint may use, for error messages."""

_FILES: dict[Any, str] = {Image: "a JPEG, PNG or WebP file", Audio: "a WAV, FLAC or OGG file"}
_SMALL_FILES: dict[Any, str] = {  # examples that work: a PNG of 32x32 pixels, a WAV of 1 ms
    Image: "iVBORw0KGgoAAAANSUhEUgAAACAAAAAgAQMAAABJtOi3AAAAA1BMVEUAAACnej3aAAAADElE"
    "QVR42mNgGNwAAACgAAGO+7G0AAAAAElFTkSuQmCC",
    Audio: "UklGRkQAAABXQVZFZm10IBAAAAABAAEAgD4AAAB9AAACABAAZGF0YSAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==",
}


def schema_hook(annotation: Any) -> dict[str, Any]:
    """JSON Schema of one of our types.

    Raises:
        NotImplementedError: not ours; msgspec turns it into its own error.
    """
    if (form := array_form(annotation)) is not None:
        return array_schema(form)
    if annotation in _FILES:
        description = f"{_FILES[annotation]}, in base64"
        examples = [_SMALL_FILES[annotation]]
        return {"type": "string", "contentEncoding": "base64", "description": description, "examples": examples}
    raise NotImplementedError


def decode_hook(annotation: Any, value: Any) -> Any:
    """Turn what JSON gave into one of our types.

    Raises:
        ValueError: it does not fit; msgspec adds where in the document.
    """
    if (form := array_form(annotation)) is not None:
        return decode_array(form, value)
    if annotation in _FILES:
        if not isinstance(value, str):
            raise ValueError(f"expected {_FILES[annotation]} as a base64 string")
        try:
            return annotation(base64.b64decode(value, validate=True))
        except binascii.Error:
            raise ValueError(f"expected {_FILES[annotation]} as a base64 string; this is not base64") from None
    raise ValueError(f"no JSON form for {annotation}")  # describing the endpoint refused such annotations before


def encode_hook(value: Any) -> Any:
    """Write one of our types. Arrays go straight to JSON text: no Python number is made for their elements.

    Raises:
        TypeError: the value has no JSON form.
    """
    if isinstance(value, np.ndarray):
        return encode_array(value)
    if isinstance(value, np.generic):
        return encode_array(np.asarray(value))
    if isinstance(value, Image | Audio):
        return value.data
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form")


def encode_array(array: np.ndarray[Any, Any]) -> Any:
    """JSON text of an array; NaN and infinities are written as ``null``.

    Raises:
        TypeError: elements without a JSON form (complex numbers).
    """
    kind = array.dtype.kind
    if kind in "OSUT":
        return array.tolist()
    if kind not in "biuf":
        if array.dtype.name != "bfloat16":
            raise TypeError(f"an array of {array.dtype} has no JSON form")
        array = array.astype(np.float32)
    if array.ndim == 0:
        return msgspec.Raw(orjson.dumps(array[()], option=orjson.OPT_SERIALIZE_NUMPY))
    native = array.dtype.newbyteorder("=")
    return msgspec.Raw(orjson.dumps(np.ascontiguousarray(array, native), option=orjson.OPT_SERIALIZE_NUMPY))


def decoder(annotation: Any) -> msgspec.json.Decoder[Any]:
    """A JSON decoder for an annotation, ours included.

    Raises:
        TypeError: msgspec cannot decode such a type.
    """
    return msgspec.json.Decoder(annotation, dec_hook=decode_hook)


ENCODER = msgspec.json.Encoder(enc_hook=encode_hook)
"""Writes any result an endpoint may give."""
