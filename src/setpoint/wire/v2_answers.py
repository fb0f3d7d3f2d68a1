"""Open Inference Protocol V2 over REST: arrays to responses, in JSON or behind it.

Sources: open-inference-protocol, ``inference_rest.md``; Triton's binary tensor data extension.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import Signature
from setpoint.wire.batch import BatchOutputs
from setpoint.wire.classification import NO_LABELS, Labels, classify
from setpoint.wire.infer_request import InferRequest
from setpoint.wire.json_tensor import encode_flat
from setpoint.wire.raw_tensor import Raw, bytes_of
from setpoint.wire.shared_memory import SharedOutput


@lru_cache(maxsize=4096)
def _shape_key(shape: tuple[int, ...]) -> bytes:
    return b"%b," % msgspec.json.encode(shape)


@lru_cache(maxsize=4096)
def _shape_and_data_key(shape: tuple[int, ...]) -> bytes:
    return b'%b,"data":' % msgspec.json.encode(shape)


class AnswerWriter:
    """Writes responses of one model; built once, so that each is cheap. ``V2Codec`` is the half that reads requests."""

    def __init__(self, signature: Signature, model: str, version: str, labels: Labels = NO_LABELS) -> None:
        self._outputs = signature.outputs
        self._labels = labels
        self._batched = signature.batched
        self._prefix = b'{"model_name":%b,"model_version":%b,' % (
            msgspec.json.encode(model),
            msgspec.json.encode(version),
        )
        self._output_names = tuple(
            b'{"name":%b,"datatype":"' % msgspec.json.encode(spec.name) for spec in signature.outputs
        )
        self._output_prefix = tuple(
            b'%b%b","shape":' % (name, spec.datatype.encode())
            for name, spec in zip(self._output_names, signature.outputs, strict=True)
        )
        self._all_outputs = tuple(range(len(signature.outputs)))
        self._row_shapes: list[tuple[int, ...]] = []
        self._row_template = b""

    def encode(self, request: InferRequest, outputs: BatchOutputs, start: int, end: int) -> bytes:
        """Write a response body of JSON for rows ``start`` to ``end`` of a batch; ``request.binary`` must be empty."""
        if outputs.single and request.wanted is None and not (request.id or request.shared or request.classes):
            # What nearly all small requests want: the answers of a whole batch are written in one go.
            bodies = outputs.bodies.get(self)
            if bodies is None:
                bodies = outputs.bodies[self] = outputs.filled(self._template(outputs))
            if bodies:
                return bodies[start]
        parts = self._head(request)
        separator = b""
        for index, position in enumerate(self._all_outputs if request.wanted is None else request.wanted):
            if request.shared and (wanted := request.shared[index]) is not None:
                parts += (
                    separator,
                    *self._shared(request, index, position, outputs.part(position, start, end), wanted),
                )
            elif request.classes and request.classes[index]:
                texts = self._classes(position, request.classes[index], outputs, start, end)
                prefix = b'%bBYTES","shape":' % self._output_names[position]
                parts += (separator, prefix, _shape_and_data_key(texts.shape), encode_flat(texts))
            else:
                shape, data = outputs.flat_json(position, start, end)
                parts += (separator, self._output_prefix[position], _shape_and_data_key(shape), data)
            separator = b"},"
        parts.append(b"}]}" if separator else b"]}")
        return b"".join(parts)

    def _template(self, outputs: BatchOutputs) -> bytes:
        """A response of one row and all outputs, ``%b`` where the elements go."""
        shapes = [array.shape[1:] for array in outputs.arrays]
        if shapes != self._row_shapes:
            tensors = [
                b"%b%b" % (prefix, _shape_and_data_key((1, *shape)))
                for prefix, shape in zip(self._output_prefix, shapes, strict=True)
            ]
            texts = [text.replace(b"%", b"%%") for text in (b'%b"outputs":[' % self._prefix, *tensors)]
            self._row_shapes = shapes
            self._row_template = b"%b%b[%%b]}]}" % (texts[0], b"[%b]},".join(texts[1:]))
        return self._row_template

    def encode_binary(
        self, request: InferRequest, outputs: BatchOutputs, start: int, end: int
    ) -> tuple[list[Raw], int]:
        """Write a response body of JSON and binary tensors for rows ``start`` to ``end`` of a batch.

        Returns:
            pieces to be joined, some over the memory of ``outputs``, and the length of the first, which is the JSON.
        """
        parts = self._head(request)
        tensors: list[Raw] = []
        separator = b""
        for index, position in enumerate(self._all_outputs if request.wanted is None else request.wanted):
            datatype = self._outputs[position].datatype
            if request.shared and (wanted := request.shared[index]) is not None:
                parts += (
                    separator,
                    *self._shared(request, index, position, outputs.part(position, start, end), wanted),
                )
                separator = b"},"
                continue
            if request.classes and request.classes[index]:
                array: NDArray[Any] = self._classes(position, request.classes[index], outputs, start, end)
                datatype = "BYTES"
            else:
                array = outputs.part(position, start, end)
            parts += (
                separator,
                self._output_names[position],
                datatype.encode(),
                b'","shape":',
                _shape_key(array.shape),
            )
            if request.binary[index]:
                tensor = bytes_of(array)
                tensors.append(tensor)
                parts.append(b'"parameters":{"binary_data_size":%d}' % len(tensor))
            else:
                parts += (b'"data":', encode_flat(array))
            separator = b"},"
        parts.append(b"}]}" if separator else b"]}")
        head = b"".join(parts)
        return [head, *tensors], len(head)

    def _shared(
        self, request: InferRequest, index: int, position: int, array: NDArray[Any], wanted: SharedOutput
    ) -> list[bytes]:
        """Put an output where it is wanted; what the JSON says of it, without the brace that ends it.

        Not how long it is: Triton's C++ client takes any parameter for a sign of binary data.
        """
        datatype = self._outputs[position].datatype
        if request.classes and request.classes[index]:
            array = self._classify(position, array, request.classes[index])
            datatype = "BYTES"
        wanted.put(array)
        return [self._output_names[position], datatype.encode(), b'","shape":', _shape_key(array.shape)[:-1]]

    def _head(self, request: InferRequest) -> list[bytes]:
        if request.id:
            return [self._prefix, b'"id":%b,"outputs":[' % msgspec.json.encode(request.id)]
        return [self._prefix, b'"outputs":[']

    def _classes(self, position: int, classes: int, outputs: BatchOutputs, start: int, end: int) -> NDArray[np.object_]:
        return self._classify(position, outputs.part(position, start, end), classes)

    def _classify(self, position: int, array: NDArray[Any], classes: int) -> NDArray[np.object_]:
        labels = self._labels.get(self._outputs[position].name, ())
        return classify(array, classes, batched=self._batched, labels=labels)
