"""What every server of this benchmark answers: the cheapest honest work of an inference route.

`/v2/models/iris/infer` decodes a typed V2 request (about 90 bytes) and answers a typed V2 response; any other path
takes the body whole and answers its length. The servers differ only in how the bytes reach `answer`.
"""

from __future__ import annotations

import msgspec

INFER_PATH = "/v2/models/iris/infer"
LENGTH_PATH = "/length"


class Tensor(msgspec.Struct, frozen=True):
    """A V2 tensor of numbers, `data` flat in row-major order."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    data: list[float]


class InferRequest(msgspec.Struct, frozen=True):
    """Body of a V2 infer request."""

    inputs: list[Tensor]


class InferResponse(msgspec.Struct, frozen=True):
    """Body of a V2 infer answer."""

    model_name: str
    outputs: list[Tensor]


class Length(msgspec.Struct, frozen=True):
    """Answer of the length route."""

    length_bytes: int


_decode = msgspec.json.Decoder(InferRequest).decode
_encode = msgspec.json.Encoder().encode


def answer(path: str, body: bytes) -> bytes:
    """Return the JSON answer. Raises msgspec.ValidationError or DecodeError on a body of the wrong form."""
    if path == INFER_PATH:
        rows = _decode(body).inputs[0]
        return _encode(InferResponse("iris", [Tensor("sum", (1, 1), "FP32", [sum(rows.data)])]))
    return _encode(Length(len(body)))
