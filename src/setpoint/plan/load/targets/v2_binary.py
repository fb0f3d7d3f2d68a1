"""Open Inference Protocol V2 with tensors as bytes, both ways: the binary tensor data extension."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import InvalidConfiguration, TensorSpec, encode_bytes_tensor
from setpoint.plan.load.targets import v2_json
from setpoint.plan.load.targets.asking import try_once
from setpoint.plan.load.targets.options import RequestOptions
from setpoint.plan.load.targets.posts import Posts, make_posts

_LENGTH = "inference-header-content-length"


def target(url: SplitResult, options: RequestOptions) -> Posts:
    """Read the model's metadata and prepare requests.

    Raises:
        SetpointError: the server does not know the model, or does not take the requests.
    """
    base = v2_json.model_path(url)
    if options.body is not None:
        raise InvalidConfiguration("--body goes with JSON; binary requests are made up, or cut from --data FILE.npz")
    specs = v2_json.specs_of(url, base, options.headers)
    bodies = [body_of(arrays, specs) for arrays in v2_json.arrays_of(specs, options)]
    lengths = {length for length, _ in bodies}
    # One head serves all requests, so their JSON parts are padded with the blanks that JSON allows.
    longest = max(lengths)
    headers = {"content-type": "application/octet-stream", **options.headers, _LENGTH: str(longest)}
    padded = [body[:length] + b" " * (longest - length) + body[length:] for length, body in bodies]
    path = f"{base}/infer"
    try_once(url, path, padded[0], headers)
    return make_posts("V2 binary", url, path, padded, headers, check)


def body_of(arrays: Mapping[str, NDArray[Any]], specs: list[TensorSpec]) -> tuple[int, bytes]:
    """Length of the JSON part, and the whole body."""
    inputs, raw = [], []
    for spec in specs:
        array = np.ascontiguousarray(arrays[spec.name])
        data = encode_bytes_tensor(array) if array.dtype.hasobject else array.tobytes()
        parameters = {"binary_data_size": len(data)}
        inputs.append(
            {"name": spec.name, "shape": list(array.shape), "datatype": spec.datatype, "parameters": parameters}
        )
        raw.append(data)
    head = msgspec.json.encode({"inputs": inputs, "parameters": {"binary_data_output": True}})
    return len(head), head + b"".join(raw)


def check(body: bytes) -> str | None:
    """What is wrong with an inference response; of its binary part only that something comes before it."""
    if body.startswith(b"{") and b'"outputs"' in body[:65536]:
        return None
    return "not a V2 inference response"
