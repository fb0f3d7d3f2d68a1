"""A synchronous client for one node. Safe to share between threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np
import orjson
from numpy.typing import ArrayLike, NDArray

from setpoint.client.connection import Connection
from setpoint.core import DATATYPES, InvalidRequest, SetpointError, TensorSpec


class _Metadata(msgspec.Struct):
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: list[Any]


class _Answer(msgspec.Struct):
    outputs: list[_Output]


class Client:
    """Calls the models of a node.

    >>> client = Client("http://127.0.0.1:8000")
    >>> client.infer("iris", {"X": [[5.1, 3.5, 1.4, 0.2]]})["label"]
    array([0])
    """

    def __init__(self, url: str, *, timeout_s: float = 60.0) -> None:
        """Nothing is sent yet.

        Args:
            url: of the node, such as ``http://127.0.0.1:8000``.
            timeout_s: for each request.
        """
        self._connection = Connection(url, timeout_s)
        self._metadata: dict[str, _Metadata] = {}

    def ready(self) -> bool:
        """Whether the node says that it can serve."""
        try:
            self._connection.request("GET", "/v2/health/ready")
        except SetpointError:
            return False
        return True

    def infer(self, model: str, inputs: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
        """Run a model on named arrays through the V2 protocol.

        Args:
            model: its name.
            inputs: one array (or nested list) per input; converted to the model's dtypes where nothing is lost in kind.

        Returns:
            one array per output, of the signature's dtype and the stated shape; BYTES as ``object`` arrays of ``str``.

        Raises:
            InvalidRequest: an input is unknown or does not fit.
            SetpointError: as the node answered.
        """
        specs = {spec.name: spec for spec in self._metadata_of(model).inputs}
        tensors = []
        for name, value in inputs.items():
            spec = specs.get(name)
            if spec is None:
                raise InvalidRequest(
                    f"model {model!r} has no input {name!r}; it takes {', '.join(specs) or 'no tensors'}"
                )
            array = _as_input(value, spec)
            tensors.append({"name": name, "shape": list(array.shape), "datatype": spec.datatype, "data": array.ravel()})
        body = orjson.dumps({"inputs": tensors}, default=_listed, option=orjson.OPT_SERIALIZE_NUMPY)
        answer = self._connection.request("POST", f"/v2/models/{quote(model)}/infer", body)
        outputs = msgspec.json.decode(answer, type=_Answer).outputs
        return {
            output.name: np.array(output.data, DATATYPES[output.datatype].dtype).reshape(output.shape)
            for output in outputs
        }

    def call(self, route: str, /, **arguments: Any) -> Any:
        """Call an endpoint by its native route.

        Args:
            route: ``MODEL/ENDPOINT``.
            arguments: of the endpoint; numpy arrays are sent as nested lists.

        Returns:
            the decoded JSON answer.

        Raises:
            SetpointError: as the node answered.
        """
        return msgspec.json.decode(self._connection.request("POST", _native(route), _encode(arguments)))

    def call_raw(self, route: str, body: bytes) -> Any:
        """Call an endpoint that takes bytes, with the bytes as the body; returns the decoded JSON answer."""
        return msgspec.json.decode(self._connection.request("POST", _native(route), body, "application/octet-stream"))

    def stream(self, route: str, /, **arguments: Any) -> Iterator[Any]:
        """Call a streaming endpoint; yields each event's decoded JSON.

        Raises:
            SetpointError: as the node answered, at the first event or where the stream breaks off.
        """
        for data in self._connection.events(_native(route), _encode(arguments)):
            yield msgspec.json.decode(data)

    def metrics(self) -> str:
        """The node's metrics as Prometheus text."""
        return self._connection.request("GET", "/metrics").decode()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _metadata_of(self, model: str) -> _Metadata:
        metadata = self._metadata.get(model)
        if metadata is None:
            text = self._connection.request("GET", f"/v2/models/{quote(model)}")
            metadata = self._metadata[model] = msgspec.json.decode(text, type=_Metadata)
        return metadata


def _native(route: str) -> str:
    model, separator, endpoint = route.partition("/")
    if not separator or not endpoint:
        raise InvalidRequest(f"expected a route such as 'embedder/embed', got {route!r}")
    return f"/models/{quote(model)}/{quote(endpoint)}"


def _encode(arguments: Mapping[str, Any]) -> bytes:
    return orjson.dumps(arguments, default=_listed, option=orjson.OPT_SERIALIZE_NUMPY)


def _listed(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, bytes):
        return value.decode()
    raise TypeError(f"cannot be sent as JSON: {type(value).__name__}")


def _as_input(value: ArrayLike, spec: TensorSpec) -> NDArray[Any]:
    dtype = spec.type.dtype
    array = np.asarray(value)
    if dtype.hasobject:
        return array.astype(object)
    if not np.can_cast(array.dtype, dtype, "same_kind") and not (array.dtype.kind in "iu" and dtype.kind in "iuf"):
        raise InvalidRequest(f"input {spec.name!r} is {spec.datatype}, got an array of {array.dtype}")
    if dtype.kind in "iu" and array.size and array.dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise InvalidRequest(
                f"input {spec.name!r} is {spec.datatype}, got values from {array.min()} to {array.max()}"
            )
    return array.astype(dtype)
