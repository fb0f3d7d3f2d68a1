"""Tensor bytes beside the message and not in it: protobuf would copy them twice on their way in and on their way out.

Source: protobuf's wire format. A message is a sequence of fields in any order, each behind its number and kind; fields
of kind 2 carry their length.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from setpoint.core import InvalidRequest, RequestTooLarge
from setpoint.wire.raw_tensor import Raw

_LENGTH_DELIMITED = 2
_FIXED_BYTES = {1: 8, 5: 4}
FIELD_LIMIT = 16_384
"""Fields of one message at its top: tensors, names, parameters. Each is a step here that everybody else waits for."""


def split(message: bytes, number: int) -> tuple[bytes, list[memoryview]]:
    """Take a repeated bytes field out of a message.

    Args:
        message: as it was received.
        number: of the field.

    Returns:
        the message without that field, and the field's values in their order, over ``message``'s own memory.

    Raises:
        InvalidRequest: the bytes are not a sequence of fields.
        RequestTooLarge: they are more fields than the limit.
    """
    view = memoryview(message)
    wanted = number << 3 | _LENGTH_DELIMITED
    kept: list[memoryview] = []
    values: list[memoryview] = []
    at, kept_from, end, left = 0, 0, len(message), FIELD_LIMIT
    while at < end:
        begin = at
        left -= 1
        if left < 0:
            raise RequestTooLarge(f"the message has more than {FIELD_LIMIT} inputs, outputs and parameters")
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _LENGTH_DELIMITED:
            length, at = _varint(message, at)
            if tag == wanted:
                values.append(view[at : at + length])
                kept.append(view[kept_from:begin])
                kept_from = at + length
            at += length
        elif kind == 0:
            _, at = _varint(message, at)
        elif kind in _FIXED_BYTES:
            at += _FIXED_BYTES[kind]
        else:
            raise InvalidRequest(f"not a protobuf message: field {tag >> 3} is of kind {kind}")
    if at != end:
        raise InvalidRequest(f"not a protobuf message: its last field ends {at - end} bytes behind its end")
    if not values:
        return message, values
    kept.append(view[kept_from:])
    return b"".join(kept), values


def field_of(number: int, payload: bytes) -> bytes:
    """A field of kind 2, whole: a string, bytes, or a message. Numbers are up to 15."""
    return bytes((number << 3 | _LENGTH_DELIMITED,)) + varint(len(payload)) + payload


def field_head(number: int, length_bytes: int) -> bytes:
    """What stands before a payload of that length."""
    return bytes((number << 3 | _LENGTH_DELIMITED,)) + varint(length_bytes)


def raw_fields(number: int, values: Sequence[Raw]) -> list[Raw]:
    """A repeated bytes field, as pieces to be joined with the rest of the message."""
    parts: list[Raw] = []
    for value in values:
        parts.append(field_head(number, len(value)))
        parts.append(value)
    return parts


@lru_cache(maxsize=4096)
def varint(value: int) -> bytes:
    """A number at or above 0, seven bits a byte, the lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number at that place, and the place behind it."""
    value = shift = 0
    try:
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
            if shift > 63:
                raise InvalidRequest("not a protobuf message: a number has more than ten bytes")
    except IndexError:
        raise InvalidRequest("not a protobuf message: it ends inside a number") from None
