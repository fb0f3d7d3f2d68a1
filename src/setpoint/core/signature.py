"""Signature: the named tensors a model takes and gives."""

from __future__ import annotations

import msgspec

from setpoint.core.datatypes import DATATYPES, Datatype
from setpoint.core.errors import InvalidConfiguration

FREE = -1
"""A free axis: any length is accepted."""


class TensorSpec(msgspec.Struct, frozen=True):
    """One named tensor.

    Attributes:
        name: as the model names it.
        datatype: V2 name, such as ``FP32``.
        shape: axis lengths, ``-1`` where free. Includes the batch axis (the first) when the signature is batched.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.datatype not in DATATYPES:
            raise InvalidConfiguration(f"tensor {self.name!r}: unknown datatype {self.datatype!r}")
        if any(length < FREE for length in self.shape):
            raise InvalidConfiguration(f"tensor {self.name!r}: axis lengths are -1 or more, got {list(self.shape)}")

    @property
    def type(self) -> Datatype:
        """The datatype's row in the table."""
        return DATATYPES[self.datatype]

    def __str__(self) -> str:
        return f"{self.name} {self.datatype}{list(self.shape)}"


class Signature(msgspec.Struct, frozen=True):
    """Inputs and outputs of a model.

    Attributes:
        inputs: in the model's order.
        outputs: in the model's order.
        batched: True when the first axis of every input and output is a batch axis: rows of different requests
            may be computed together and the answers are those each row would get alone. This is established by
            running the model (``formats.probe``), never assumed from symbolic axis names.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool

    def input(self, name: str) -> TensorSpec | None:
        """The input of that name, or None."""
        return next((spec for spec in self.inputs if spec.name == name), None)

    def __str__(self) -> str:
        takes = ", ".join(map(str, self.inputs))
        gives = ", ".join(map(str, self.outputs))
        return f"{takes} → {gives}"
