"""A request's key: equal for requests that must get equal answers, and for no others.

Everything is behind its length, so that no two different requests write the same bytes; the digest is BLAKE2b with 256
bits, so that nobody can make two that collide. What a client may ask about the form of its answer (which outputs, JSON
or binary, an id) is not in it: the outputs are kept whole, and written anew for each.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Final

import numpy as np

from setpoint.core import ModelManifest, encode_bytes_tensor
from setpoint.worker import CallRequest, Request, TensorRequest

INPUT_LIMIT_BYTES: Final = 8 << 20
"""Larger inputs have no key: hashing holds up everybody else on the node, by about 1 ms a MiB."""
_PERSON: Final = b"setpoint cache 1"
_LENGTH: Final = struct.Struct("<Q")
_SHAPES: Final = tuple(struct.Struct(f"<{1 + axes}Q") for axes in range(33))


class KeyMaker:
    """Makes the keys of one model's requests.

    What all requests to an endpoint have in common is hashed once.
    """

    def __init__(self, digest: str, manifest: ModelManifest, *, shared: bool) -> None:
        """For the bundle of that digest; ``shared`` leaves tenants out of the key."""
        self._shared = shared
        self._base: dict[tuple[str, str], blake2b] = {}
        for endpoint in manifest.endpoints:
            inputs = endpoint.signature.inputs if endpoint.signature is not None else ()
            names = [part for spec in inputs for part in (spec.name, spec.datatype)]
            for kind in (_TENSORS, _JSON, _RAW):
                base = blake2b(digest_size=32, person=_PERSON)
                for text in (digest, endpoint.name, kind, "shared" if shared else "by tenant", *names):
                    base.update(_sized(text.encode()))
                self._base[endpoint.name, kind] = base

    def key(self, request: Request) -> bytes | None:
        """32 bytes; None for requests that have no key: streams, and inputs beyond ``INPUT_LIMIT_BYTES``."""
        if isinstance(request, TensorRequest):
            return self._tensors(request)
        if isinstance(request, CallRequest) and len(request.body) <= INPUT_LIMIT_BYTES:
            hashed = self._begin(request, _RAW if request.raw else _JSON)
            hashed.update(request.body)
            return hashed.digest()
        return None

    def _begin(self, request: Request, kind: str) -> blake2b:
        hashed = self._base[request.endpoint, kind].copy()
        if not self._shared:
            hashed.update(_sized(request.tenant.encode("utf-8", "surrogateescape")))
        return hashed

    def _tensors(self, request: TensorRequest) -> bytes | None:
        hashed = self._begin(request, _TENSORS)
        left_bytes = INPUT_LIMIT_BYTES
        for array in request.inputs:
            left_bytes -= array.nbytes
            if left_bytes < 0:
                return None
            elements: bytes | memoryview
            if array.dtype.hasobject:
                elements = encode_bytes_tensor(array)
                left_bytes -= len(elements)
                if left_bytes < 0:
                    return None
            elif array.nbytes <= _COPIED_BYTES:
                elements = array.tobytes()
            else:
                elements = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            # Its dtype is the signature's, which is in the base; here for a wire that would forget to convert.
            hashed.update(_sized(array.dtype.str.encode()))
            hashed.update(_SHAPES[array.ndim].pack(array.ndim, *array.shape))
            hashed.update(_LENGTH.pack(len(elements)))
            hashed.update(elements)
        return hashed.digest()


_TENSORS: Final = "tensors"
_JSON: Final = "json"
_RAW: Final = "raw"
_COPIED_BYTES: Final = 4096
"""Up to here a copy is quicker than a view."""


def _sized(text: bytes) -> bytes:
    return _LENGTH.pack(len(text)) + text
