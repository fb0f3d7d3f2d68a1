"""What serving takes beside a model's runs: the node's processor time for requests and batches, out of the same cores.

Reading a request and writing its answer depend on the model (a row may be 4 numbers or 150,000) and are timed here,
with a row of the model's own. The rest is what a node of this design takes for anything, by its processor time in
``benchmarks/peers`` and ``benchmarks/request_cost``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import Signature
from setpoint.wire import BatchOutputs, V2Codec

_HTTP_NS = 18_000
"""Of the node's processor time for one request whatever is in it: sockets, HTTP, the queue; the kernel's part too."""
_BATCH_NS = 80_000
"""Of the node's processor time for one batch: choosing it, handing it over, being woken by its end. With the above and
some 7 µs of reading and writing it is what docs/benchmarks.md saw of a model of three operations: 37,857 requests/s at
64 connections, where batches are large and the node is at its limit, and a round trip of 152 µs at one connection."""
_WOKEN_NS = 300_000
_TOGETHER_PER_S = 1_300
"""A node that is woken for a request finds its caches full of the model's numbers, and turns its loop for it alone: so
much more for the first, half of it at that rate, little where requests come together. Fitted to what the node took
beside busy workers (``benchmarks/optimize/predicted.py``): 328 µs at 280 requests/s, 176 at 1,480, 63 at 10,800. Of the
37,857 above it says too much: a node at its limit does not sleep, so nobody wakes it."""
_ELEMENT = 0.123456
"""Numbers in answers have some digits: rounder ones are written faster."""
_TRIES, _SPENT_MOST_NS = 50, 50_000_000


class Surroundings(msgspec.Struct, frozen=True):
    """What comes out of the cores that workers run on.

    Attributes:
        request_ns: of the node's processor time, for one request of one row and its answer, where many come together.
        batch_ns: of the node's processor time, for one batch.
        beside_ns: of anybody else's, for one request: a load generator on the same machine, where there is one.
    """

    request_ns: int = _HTTP_NS
    batch_ns: int = _BATCH_NS
    beside_ns: int = 0

    def request_at(self, rate_per_s: float) -> int:
        """Nanoseconds of the node's processor time for one request, where so many come in a second."""
        return self.request_ns + round(_WOKEN_NS / (1 + rate_per_s / _TOGETHER_PER_S))


def surroundings_of(signature: Signature, arrays: Sequence[NDArray[Any]]) -> Surroundings:
    """Time a request and its answer as JSON.

    Args:
        signature: of the model.
        arrays: one for each input, in the signature's order; where there is a batch axis the first row is taken.
            Of answers the signature alone is known: their free axes count as 1 long.

    Returns:
        with the least of several timings, since whatever disturbs one makes it longer; without the timing where tensors
        are no numbers in JSON.
    """
    specs = (*signature.inputs, *signature.outputs)
    if not all(spec.type.json_number and not spec.type.dtype.hasobject for spec in specs):
        return Surroundings()
    codec = V2Codec(signature, "model", "1")
    inputs = []
    for spec, array in zip(signature.inputs, arrays, strict=True):
        row = array[:1] if signature.batched else array
        data = row.ravel().tolist()
        inputs.append({"name": spec.name, "shape": row.shape, "datatype": spec.datatype, "data": data})
    body = msgspec.json.encode({"inputs": inputs})
    answers = [_made_up(spec.shape, spec.type.dtype) for spec in signature.outputs]
    least_ns, begun_ns = 0, time.perf_counter_ns()
    for _ in range(_TRIES):
        start_ns = time.perf_counter_ns()
        request = codec.decode(body)
        codec.encode(request, BatchOutputs(answers, together=signature.batched), 0, 1)
        end_ns = time.perf_counter_ns()
        least_ns = min(least_ns or end_ns - start_ns, end_ns - start_ns)
        if end_ns - begun_ns > _SPENT_MOST_NS:
            break
    return Surroundings(_HTTP_NS + least_ns)


def _made_up(shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.full([max(1, extent) for extent in shape], _ELEMENT).astype(dtype)
