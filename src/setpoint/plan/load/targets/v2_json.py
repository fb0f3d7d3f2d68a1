"""Open Inference Protocol V2 over JSON: any server that speaks it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.core import InvalidConfiguration, SetpointError, TensorSpec
from setpoint.plan.load.targets.asking import ask, try_once
from setpoint.plan.load.targets.data import encode, fit, make_up, read_lines, read_npz, slices
from setpoint.plan.load.targets.options import RequestOptions
from setpoint.plan.load.targets.posts import JSON, Posts, make_posts

_PATH = re.compile(r"(.*/v2/models/[^/]+(?:/versions/[^/]+)?)(?:/infer)?/?")


class _Metadata(msgspec.Struct):
    inputs: list[TensorSpec]


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: msgspec.Raw


class _Answer(msgspec.Struct):
    outputs: list[_Output]


_decode_answer = msgspec.json.Decoder(_Answer).decode


def recognises(url: SplitResult) -> bool:
    """Whether the path is one of the protocol's."""
    return _PATH.fullmatch(url.path) is not None


def target(url: SplitResult, options: RequestOptions) -> Posts:
    """Read the model's metadata and prepare requests.

    Raises:
        SetpointError: the server does not know the model, or does not take the requests.
    """
    base = model_path(url)
    headers = {"content-type": JSON, **options.headers}
    path = f"{base}/infer"
    bodies = [options.body] if options.body is not None else _bodies(url, base, options)
    try_once(url, path, bodies[0], headers)
    return make_posts("V2 JSON", url, path, bodies, headers, check)


def model_path(url: SplitResult) -> str:
    """The part of a recognised path that names the model."""
    match = _PATH.fullmatch(url.path)
    assert match is not None
    return match[1]


def check(body: bytes) -> str | None:
    """What is wrong with an inference response."""
    try:
        outputs = _decode_answer(body).outputs
    except msgspec.MsgspecError as error:
        return f"not a V2 inference response: {error}"
    return None if outputs else "a V2 inference response without outputs"


def specs_of(url: SplitResult, path: str, headers: Mapping[str, str]) -> list[TensorSpec]:
    """The model's inputs, as its metadata says.

    Raises:
        InvalidConfiguration: there is no metadata, or no input.
    """
    status, body = ask(url, "GET", path, None, headers)
    if status != 200:
        text = body[:300].decode("utf-8", "replace").strip()
        raise InvalidConfiguration(f"GET {path} answers {status}: {text}; expected the metadata of a model")
    try:
        specs = msgspec.json.decode(body, type=_Metadata).inputs
    except (msgspec.MsgspecError, SetpointError) as error:
        raise InvalidConfiguration(f"GET {path} does not answer with V2 metadata: {error}") from error
    if not specs:
        raise InvalidConfiguration(f"{path} has no tensor inputs; use its own route, …/models/NAME/ENDPOINT")
    return specs


def _bodies(url: SplitResult, path: str, options: RequestOptions) -> list[bytes]:
    specs = specs_of(url, path, options.headers)
    if (binary := next((spec for spec in specs if not spec.type.json_number), None)) is not None:
        raise InvalidConfiguration(f"input {binary} has no V2 JSON form; send it with --wire binary")
    if options.data is not None and options.data.suffix != ".npz":
        return [_line(line, specs, options.data) for line in read_lines(options.data)]
    return [_body(arrays, specs) for arrays in arrays_of(specs, options)]


def arrays_of(specs: list[TensorSpec], options: RequestOptions) -> Iterator[Mapping[str, NDArray[Any]]]:
    """The inputs of each request: cut from the user's ``.npz``, or made up.

    Raises:
        InvalidConfiguration: the data is of another form, or does not fit the model.
    """
    if options.data is None:
        yield from make_up(specs, options.rows, options.length, options.seed)
    elif options.data.suffix == ".npz":
        yield from slices(fit(read_npz(options.data), specs, f"data {options.data}"), options.rows)
    else:
        raise InvalidConfiguration(f"data {options.data}: tensors that are not sent as JSON come from an .npz")


def _line(line: bytes, specs: list[TensorSpec], path: Path) -> bytes:
    """A line that is a V2 request goes as it is; one of ``{input: values}`` becomes one."""
    document: Any = msgspec.json.decode(line)
    if not isinstance(document, dict):
        raise InvalidConfiguration(
            f"data {path}: expected objects, V2 requests or {{input: nested lists}}, got {document!r:.60}"
        )
    if isinstance(document.get("inputs"), list):
        return line
    try:
        arrays = {name: np.array(value) for name, value in document.items()}
    except ValueError as error:
        raise InvalidConfiguration(f"data {path}: nested lists of uneven lengths: {error}") from error
    return _body(fit(arrays, specs, f"data {path}"), specs)


def _body(arrays: Mapping[str, NDArray[Any]], specs: list[TensorSpec]) -> bytes:
    tensors = []
    for spec in specs:
        array = arrays[spec.name]
        flat = np.ascontiguousarray(array).reshape(-1)
        tensors.append({"name": spec.name, "shape": list(array.shape), "datatype": spec.datatype, "data": flat})
    return encode({"inputs": tensors})
