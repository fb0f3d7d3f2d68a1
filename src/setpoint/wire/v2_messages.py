"""Open Inference Protocol V2 over REST: what a request's JSON may hold.

Sources: open-inference-protocol, ``inference_rest.md``; Triton's extensions for binary tensor data, classification,
parameters and scheduling policy. Unknown keys are read over, as JSON that must be well-formed.
"""

from __future__ import annotations

import msgspec

from setpoint.core import InvalidRequest
from setpoint.wire.shared_memory import Extent

_LONGEST_TIMEOUT_US = 86_400_000_000
ABSENT = -1


class _SharedMemoryParameters(msgspec.Struct, gc=False):
    """Of a tensor that may lie in shared memory.

    Attributes:
        shared_memory_region: the name of the region that it lies in; empty where it does not.
        shared_memory_offset, shared_memory_byte_size: where in it.
    """

    shared_memory_region: str = ""
    shared_memory_offset: int = 0
    shared_memory_byte_size: int = 0

    @property
    def extent(self) -> Extent | None:
        """The part of the region, if there is one."""
        if not self.shared_memory_region:
            return None
        return Extent(self.shared_memory_region, self.shared_memory_offset, self.shared_memory_byte_size)


class InputParameters(_SharedMemoryParameters, gc=False):
    """Of one input.

    Attributes:
        binary_data_size: bytes of this tensor behind the JSON; ``ABSENT`` where it stands in ``data``.
    """

    binary_data_size: int = ABSENT


class Input(msgspec.Struct, gc=False):
    """One tensor; its elements are in ``data``, or behind the JSON."""

    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parameters: InputParameters | None = None


class OutputParameters(_SharedMemoryParameters, gc=False):
    """Of one requested output.

    Attributes:
        binary_data: behind the JSON, or in it; None: as the request says of all.
        classification: give the labels of so many highest values instead of the tensor; 0: the tensor.
    """

    binary_data: bool | None = None
    classification: int = 0


class RequestedOutput(msgspec.Struct, gc=False):
    """One output that the client wants."""

    name: str
    parameters: OutputParameters | None = None


class RequestParameters(msgspec.Struct, gc=False):
    """Of the whole request.

    Attributes:
        binary_data_output: outputs that do not say otherwise stand behind the JSON.
        timeout: microseconds that the client waits; 0 where it does not say.
        priority: 1 is the most urgent; 0 is the default.
    """

    binary_data_output: bool = False
    timeout: int = 0
    priority: int = 0

    def check(self) -> None:
        """Raise ``InvalidRequest`` for a time or level that cannot be."""
        if not 0 <= self.timeout <= _LONGEST_TIMEOUT_US:
            raise InvalidRequest("parameter 'timeout': expected microseconds from 0 up to a day")
        if self.priority < 0:
            raise InvalidRequest("parameter 'priority': expected 1 for the most urgent and above, or 0 for the default")


class Body(msgspec.Struct, gc=False):
    """A request's JSON."""

    inputs: list[Input]
    id: str = ""
    parameters: RequestParameters | None = None
    outputs: list[RequestedOutput] | None = None


decode_body = msgspec.json.Decoder(Body).decode
NO_PARAMETERS = RequestParameters()
NO_OUTPUT_PARAMETERS = OutputParameters()
