"""A synchronous client for one node."""

from __future__ import annotations

import copy
import ssl
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import msgspec
from numpy.typing import ArrayLike, NDArray

from setpoint.client.blocking import Connections
from setpoint.client.exchange import Address
from setpoint.client.operations import TENANT_HEADER, ModelInfo, Operations, Terms
from setpoint.client.retrying import Retries
from setpoint.client.sse import EventReader
from setpoint.core import SystemClock


class Client:
    """Calls the models of a node, here or far away. Safe to share between threads; needs no event loop.

    >>> client = Client("http://127.0.0.1:8000")
    >>> client.infer("iris", {"X": [[5.1, 3.5, 1.4, 0.2]]})["label"]
    array([0])
    >>> client.call("embedder/embed", texts=["one", "two"])
    [[0.01, …], [-0.2, …]]
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 60.0,
        retries: Retries | None = None,
        headers: Mapping[str, str] | None = None,
        tenant: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: of the node, such as ``http://127.0.0.1:8000``.
            timeout_s: for each answer, tries included. The node is told, and does not compute what comes too late.
            retries: of requests that were refused before they ran, or never arrived; four attempts without.
            headers: sent with every request, such as ``{"authorization": "Bearer …"}``.
            tenant: on whose behalf the requests come.
            tls: for ``https``, whom to trust; the system's authorities without.

        Raises:
            InvalidConfiguration: the URL is none, or a number impossible.
        """
        address = Address.parse(url)
        clock = SystemClock()
        self._terms = terms_of(timeout_s, retries, headers, tenant)
        self._operations = Operations(self._terms, clock)
        self._connections = Connections(address, context_for(address, tls), clock)

    def ready(self) -> bool:
        """Whether the node says that it can serve."""
        return self._connections.run(self._operations.ready())

    def within(self, timeout_s: float) -> Client:
        """The same client with another timeout: ``client.within(0.2).call(…)``. It shares the connections."""
        other = copy.copy(self)
        other._terms = msgspec.structs.replace(self._terms, timeout_s=timeout_s)
        other._operations = self._operations.on(other._terms)
        return other

    def models(self) -> tuple[ModelInfo, ...]:
        """The models that the node serves.

        Raises:
            SetpointError: as the node answered.
        """
        return self._connections.run(self._operations.models())

    def infer(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike] | None = None,
        /,
        *,
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
        priority: int | None = None,
        **named: ArrayLike,
    ) -> dict[str, NDArray[Any]]:
        """Run a model on named arrays through the V2 protocol: binary where the server takes it, else JSON.

        Args:
            model: its name; ``NAME:VERSION`` and ``NAME:ALIAS`` where they are served.
            inputs: one array (or nested list) per input; converted to the model's dtypes where nothing is lost in kind.
            outputs: wanted; all without.
            timeout_s: for this answer.
            priority: 1 is the most urgent.
            named: inputs, where their names can be written so: ``client.infer("iris", X=rows)``.

        Returns:
            one array per output, of the signature's dtype and the stated shape; BYTES as ``object`` arrays of ``str``,
            or of ``bytes`` where they are not UTF-8.

        Raises:
            InvalidRequest: an input is unknown or does not fit.
            DeadlineExceeded: there was no answer in time.
            NotReady: nobody answers.
            SetpointError: as the node answered.
        """
        given = {**(inputs or {}), **named}
        return self._connections.run(self._operations.infer(model, given, outputs, timeout_s, priority))

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
        return self._connections.run(self._operations.call(route, arguments))

    def call_raw(self, route: str, body: bytes) -> Any:
        """Call an endpoint that takes bytes, with the bytes as the body; returns the decoded JSON answer."""
        return self._connections.run(self._operations.call_raw(route, body))

    def stream(self, route: str, /, **arguments: Any) -> Iterator[Any]:
        """Call a streaming endpoint; yields each event's decoded JSON. Close the iterator to stop it.

        Raises:
            SetpointError: as the node answered, at the first event or where the stream breaks off.
        """
        events = EventReader()
        pieces = self._connections.stream(self._operations.stream(route, arguments), self._terms.timeout_s)
        try:
            for piece in pieces:
                for data in events.feed(piece):
                    yield msgspec.json.decode(data)
        finally:
            pieces.close()

    def metrics(self) -> str:
        """The node's metrics as Prometheus text."""
        return self._connections.run(self._operations.metrics())

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def terms_of(timeout_s: float, retries: Retries | None, headers: Mapping[str, str] | None, tenant: str | None) -> Terms:
    """What both clients are told, in one record."""
    sent = {name.lower(): value for name, value in (headers or {}).items()}
    if tenant is not None:
        sent[TENANT_HEADER] = tenant
    return Terms(timeout_s, retries or Retries(), sent)


def context_for(address: Address, tls: ssl.SSLContext | None) -> ssl.SSLContext | None:
    """How to encrypt, where the address says so."""
    return (tls or ssl.create_default_context()) if address.tls else None
