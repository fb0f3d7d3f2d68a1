"""Tensors in shared memory: what requests say of them is held to what is there, and the same over REST and gRPC."""

import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import dumps, models, same

from setpoint.core import DATATYPES, FREE, InvalidRequest, RequestError, Signature, TensorSpec
from setpoint.wire import BatchOutputs, Extent, InferRequest, V2Codec
from setpoint.wire.grpc import GrpcCodec, message_class, read_infer
from setpoint.wire.raw_tensor import Raw, array_of, bytes_of

ALL = list(DATATYPES)
ROW = Signature((TensorSpec("x", "FP32", (FREE, 2)),), (TensorSpec("x", "FP32", (FREE, 2)),), True)


class Memory:
    """One region in this process's own memory."""

    def __init__(self, size_bytes: int) -> None:
        self.content = bytearray(size_bytes)

    def read(self, extent: Extent) -> memoryview:
        self._check(extent)
        return memoryview(bytes(self.content[extent.offset : extent.offset + extent.size_bytes]))

    def place(self, extent: Extent) -> "Memory.Place":
        self._check(extent)
        return Memory.Place(self, extent)

    def _check(self, extent: Extent) -> None:
        if extent.region != "r" or min(extent.offset, extent.size_bytes) < 0:
            raise InvalidRequest("no such part")
        if extent.offset + extent.size_bytes > len(self.content):
            raise InvalidRequest("not within the region")

    class Place:
        def __init__(self, memory: "Memory", extent: Extent) -> None:
            self._memory, self._extent = memory, extent

        def write(self, raw: Raw) -> None:
            if len(raw) > self._extent.size_bytes:
                raise InvalidRequest("no room")
            start = self._extent.offset
            self._memory.content[start : start + len(raw)] = raw


def parameters_of(extent: Extent) -> dict[str, str | int]:
    return extent.parameters


def by_rest(
    memory: Memory, signature: Signature, arrays: list[NDArray[Any]], sources: list[Extent], targets: list[Extent]
) -> tuple[V2Codec, InferRequest]:
    codec = V2Codec(signature, "m", "1", memory)
    inputs = [
        {"name": spec.name, "datatype": spec.datatype, "shape": array.shape, "parameters": parameters_of(extent)}
        for spec, array, extent in zip(signature.inputs, arrays, sources, strict=True)
    ]
    outputs = [
        {"name": spec.name, "parameters": parameters_of(extent)}
        for spec, extent in zip(signature.outputs, targets, strict=True)
    ]
    return codec, codec.decode(dumps({"inputs": inputs, "outputs": outputs}))


def by_grpc(
    memory: Memory, signature: Signature, arrays: list[NDArray[Any]], sources: list[Extent], targets: list[Extent]
) -> tuple[GrpcCodec, InferRequest]:
    codec = GrpcCodec(signature, "m", "1", memory)
    message = message_class("inference.ModelInferRequest")(model_name="m")
    for spec, array, extent in zip(signature.inputs, arrays, sources, strict=True):
        put(message.inputs.add(name=spec.name, datatype=spec.datatype, shape=array.shape), extent)
    for spec, extent in zip(signature.outputs, targets, strict=True):
        put(message.outputs.add(name=spec.name), extent)
    return codec, codec.decode(read_infer(message.SerializeToString(), 1 << 20))


def put(holder: Any, extent: Extent) -> None:
    for name, value in parameters_of(extent).items():
        setattr(holder.parameters[name], "string_param" if isinstance(value, str) else "int64_param", value)


@pytest.mark.parametrize("ask", [by_rest, by_grpc], ids=["rest", "grpc"])
@given(model=models(ALL))
def test_what_lies_in_shared_memory_is_read_and_written_as_it_is(
    ask: Any, model: tuple[Signature, list[NDArray[Any]]]
) -> None:
    signature, arrays = model
    raw = [bytes(bytes_of(array)) for array in arrays]
    half = sum(map(len, raw)) + 8
    memory = Memory(2 * half)
    sources, targets, at = [], [], 3
    for each in raw:
        memory.content[at : at + len(each)] = each
        sources.append(Extent("r", at, len(each)))
        targets.append(Extent("r", half + at, len(each)))
        at += len(each)
    codec, request = ask(memory, signature, arrays, sources, targets)
    assert all(map(same, request.arrays, arrays))
    outputs = BatchOutputs(arrays, together=False)
    if isinstance(codec, V2Codec):
        answer = json.loads(codec.encode(request, outputs, 0, request.rows))
        assert [list(output) for output in answer["outputs"]] == [["name", "datatype", "shape"]] * len(arrays)
    else:
        encoded = b"".join(codec.encode(request, outputs, 0, request.rows))
        answer = message_class("inference.ModelInferResponse").FromString(encoded)
        assert list(answer.raw_output_contents) == [b""] * len(arrays), "one for each output, whichever it is"
        sizes = [output.parameters["shared_memory_byte_size"].int64_param for output in answer.outputs]
        assert sizes == list(map(len, raw))
    for spec, array, target in zip(signature.outputs, arrays, targets, strict=True):
        written = array_of(spec, memory.read(target), array.shape, array.size)
        assert same(written, array)
    assert memory.content[half : half + 3] == bytes(3)


numbers = st.integers(-8, 80) | st.sampled_from([2**31, 2**62, -(2**62)])


@pytest.mark.parametrize("ask", [by_rest, by_grpc], ids=["rest", "grpc"])
@given(source=st.builds(Extent, st.sampled_from(["r", "q"]), numbers, numbers), rows=st.integers(1, 4))
def test_any_part_is_read_or_refused_as_the_clients_mistake(ask: Any, source: Extent, rows: int) -> None:
    with suppress(RequestError):
        _, request = ask(Memory(64), ROW, [np.zeros((rows, 2), np.float32)], [source], [Extent("r", 0, 64)])
        assert source.region == "r"
        assert 0 <= source.offset <= 64 - source.size_bytes
        assert request.arrays[0].nbytes == source.size_bytes


@pytest.mark.parametrize("ask", [by_rest, by_grpc], ids=["rest", "grpc"])
def test_an_output_without_room_is_the_clients_mistake(ask: Any) -> None:
    arrays = [np.ones((2, 2), np.float32)]
    memory = Memory(64)
    codec, request = ask(memory, ROW, arrays, [Extent("r", 0, 16)], [Extent("r", 0, 15)])
    with pytest.raises(InvalidRequest, match="no room"):
        codec.encode(request, BatchOutputs(arrays, together=False), 0, 2)
    assert bytes(memory.content) == bytes(64)


def test_without_shared_memory_it_is_said_how_to_have_it() -> None:
    for codec in (V2Codec(ROW, "m", "1"), GrpcCodec(ROW, "m", "1")):
        ask = by_rest if isinstance(codec, V2Codec) else by_grpc
        source = Extent("r", 0, 8)
        with pytest.raises(InvalidRequest, match="--shared-memory"):
            ask(codec._memory, ROW, [np.zeros((1, 2), np.float32)], [source], [source])  # type: ignore[arg-type]
