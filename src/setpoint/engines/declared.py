"""What a graph says of its own inputs and outputs, before anybody has run it."""

from __future__ import annotations

import msgspec

from setpoint.core import FREE, TensorSpec

FREE_ROWS = "free-rows"
"""A variant's ``entry``: the first axis of every input may be resized, though the file says that it is 1."""


class DeclaredTensor(msgspec.Struct, frozen=True):
    """One input or output as the graph declares it, which need not be true of outputs.

    Attributes:
        name: in the graph.
        datatype: V2 name.
        axes: a length, a symbol's name, or None for an unnamed free axis.
    """

    name: str
    datatype: str
    axes: tuple[int | str | None, ...]

    @property
    def spec(self) -> TensorSpec:
        """The same with free axes as -1."""
        shape = tuple(axis if isinstance(axis, int) and axis >= 0 else FREE for axis in self.axes)
        return TensorSpec(self.name, self.datatype, shape)
