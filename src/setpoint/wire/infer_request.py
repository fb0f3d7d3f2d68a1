"""A decoded inference request, whichever way it came, and what all ways of reading one do at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import msgspec
from numpy.typing import NDArray

from setpoint.core import DEFAULT_LIMITS, FREE, InvalidRequest, Limits, RequestTooLarge, Signature
from setpoint.wire.json_body import excerpt
from setpoint.wire.json_tensor import TensorReader
from setpoint.wire.shared_memory import SharedOutput


class InferRequest(msgspec.Struct, frozen=True, gc=False):
    """A decoded request.

    Attributes:
        arrays: one per input, in the signature's order, of its dtype.
        rows: length of the batch axis; 1 where the signature is not batched.
        inner_shapes: each input's axis lengths behind the batch axis, where they may differ from request to request;
            empty where they cannot. Only requests of equal inner shapes can share a batch.
        id: to be echoed; empty without.
        wanted: positions of the wanted outputs in the signature, or None for all.
        binary: for each output that is given, whether it stands behind the JSON; empty where none does.
        classes: for each output that is given, how many of its highest values are wanted as text, 0 for the tensor;
            empty where all are given as tensors.
        timeout_ns: how long the client waits; 0 where it does not say.
        priority: V2's: 1 is the most urgent, 0 is the default.
        shared: for each output that is given, where in shared memory it is wanted, None for in the answer; empty where
            all are wanted in the answer.
    """

    arrays: list[NDArray[Any]]
    rows: int
    inner_shapes: tuple[tuple[int, ...], ...]
    id: str = ""
    wanted: tuple[int, ...] | None = None
    binary: tuple[bool, ...] = ()
    classes: tuple[int, ...] = ()
    timeout_ns: int = 0
    priority: int = 0
    shared: tuple[SharedOutput | None, ...] = ()


class SignatureReader:
    """What all ways of reading a request share: its inputs and the outputs that it asks for, judged by the signature.

    Built once for a model.
    """

    def __init__(self, signature: Signature, limits: Limits = DEFAULT_LIMITS) -> None:
        self.signature = signature
        self._tensor_limit = limits.tensor_limit
        self.readers = tuple(TensorReader(spec, limits) for spec in signature.inputs)
        self.position = {spec.name: position for position, spec in enumerate(signature.inputs)}
        self._output_position = {spec.name: position for position, spec in enumerate(signature.outputs)}
        self._free_inside = any(FREE in spec.shape[1:] for spec in signature.inputs)

    def request(
        self,
        arrays: list[NDArray[Any]],
        request_id: str = "",
        wanted: tuple[int, ...] | None = None,
        binary: tuple[bool, ...] = (),
        classes: tuple[int, ...] = (),
        timeout_ns: int = 0,
        priority: int = 0,
        shared: tuple[SharedOutput | None, ...] = (),
    ) -> InferRequest:
        """Put arrays (in the signature's order, each of its declared shape) into a request.

        Raises:
            InvalidRequest: the batch axes differ, or are 0.
        """
        rows = 1
        if self.signature.batched:
            rows = arrays[0].shape[0]
            for position, array in enumerate(arrays):
                if array.shape[0] != rows:
                    name, first = self.signature.inputs[position].name, self.signature.inputs[0].name
                    raise InvalidRequest(
                        f"inputs have different batch sizes: {first!r} has {rows} rows, {name!r} has {array.shape[0]}"
                    )
            if rows == 0:
                raise InvalidRequest("the request has no rows: the first axis of its inputs is 0")
        inner_shapes = tuple([array.shape[1:] for array in arrays]) if self._free_inside else ()
        if wanted is None and not (binary or timeout_ns or priority):  # nearly always: unset fields cost nothing
            return InferRequest(arrays, rows, inner_shapes, request_id)
        return InferRequest(
            arrays, rows, inner_shapes, request_id, wanted, binary, classes, timeout_ns, priority, shared
        )

    def check_input(self, position: int, datatype: str, shape: list[int] | tuple[int, ...]) -> int:
        """Judge what a V2 request says of one input; returns the number of elements.

        Raises:
            InvalidRequest: another datatype than the model's, a wrong rank or a wrong axis.
        """
        spec = self.signature.inputs[position]
        if datatype != spec.datatype:
            raise InvalidRequest(
                f"input {spec.name!r} has datatype {excerpt(datatype)!r}, the model takes {spec.datatype}"
            )
        return self.readers[position].check_shape(shape)

    def wanted(self, names: Iterable[str]) -> tuple[int, ...]:
        """Positions of the outputs of these names.

        Raises:
            InvalidRequest: the model has no such output, or one is named twice.
            RequestTooLarge: more names than a request may have.
        """
        names = list(names)
        self._check_number(len(names), "asks for", "outputs")
        positions: list[int] = []
        for name in names:
            position = self._output_position.get(name)
            if position is None:
                known = ", ".join(map(repr, self._output_position))
                raise InvalidRequest(f"the model has no output {excerpt(name)!r}; it has {known}")
            if position in positions:
                raise InvalidRequest(f"output {name!r} is asked for twice")
            positions.append(position)
        return tuple(positions)

    def raise_wrong_inputs(self, got: Sequence[str]) -> NoReturn:
        """Say what inputs the model takes, or that these are more than any request may have."""
        self._check_number(len(got), "has", "inputs")
        expected = ", ".join(map(str, self.signature.inputs))
        names = excerpt(", ".join(map(repr, got))) or "none"
        raise InvalidRequest(f"the model takes each of these inputs once: {expected}; got {names}")

    def _check_number(self, tensors: int, verb: str, what: str) -> None:
        if tensors > self._tensor_limit:
            raise RequestTooLarge(
                f"the request {verb} {tensors} {what}, more than the limit of {self._tensor_limit} "
                "(limits.tensor_limit)"
            )
