"""A form on its way from the node to a worker: each field's parts as bytes, behind a mark that no JSON begins with.

It goes where a JSON object of arguments goes, so that requests in either form wait in one lane and share batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

_MARK = b"\x00"
_encode = msgspec.msgpack.Encoder().encode_into
_decode = msgspec.msgpack.Decoder(dict[str, list[bytes]]).decode


def pack_form(fields: Mapping[str, Sequence[bytes | memoryview]]) -> bytes:
    """A body of a request for an endpoint of a Python class.

    Args:
        fields: by the argument's name, its parts in their order.
    """
    packed = bytearray(_MARK)
    _encode(fields, packed, len(_MARK))
    return bytes(packed)


def is_form(body: bytes | memoryview) -> bool:
    """Whether ``pack_form`` made it."""
    return bytes(body[: len(_MARK)]) == _MARK


def unpack_form(body: bytes | memoryview) -> dict[str, list[bytes]]:
    """What ``pack_form`` was given.

    Raises:
        msgspec.MsgspecError: it was made by something else.
    """
    return _decode(memoryview(body)[len(_MARK) :])
