"""From the name and version in a message to the model that is served, and the codec that reads requests for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from weakref import WeakKeyDictionary

from setpoint.core import Endpoint, InvalidRequest, Limits, NotFound
from setpoint.node.service import ModelService
from setpoint.node.shared_memory import Regions
from setpoint.wire import grpc as wire

_SHOWN_CHARACTERS = 80
_SHOWN_MODELS = 10


class Served(Protocol):
    """The models that are served now; the fleet."""

    @property
    def services(self) -> Sequence[ModelService]:
        """All of them."""
        ...

    def published(self, name: str) -> ModelService | None:
        """The one of that name."""
        ...


class Catalogue:
    """Finds models by what clients call them. Models may come and go while it is in use."""

    def __init__(self, served: Served, memory: Regions, limits: Limits) -> None:
        self._limits = limits
        self.served = served
        self.memory = memory
        self._codecs: WeakKeyDictionary[ModelService, tuple[Endpoint, wire.GrpcCodec]] = WeakKeyDictionary()

    def find(self, name: str, version: str) -> ModelService:
        """The model of that name; ``version`` is its version or alias, or empty for whatever is served.

        Raises:
            NotFound: no such model, or not in that version; the message says what there is.
        """
        service = self.served.published(name)
        if service is not None:
            bundle = service.config.bundle
            if version and version not in (str(bundle.version), *bundle.aliases):
                raise NotFound(
                    f"model {name!r} is served in version {bundle.version}, not in {version[:_SHOWN_CHARACTERS]!r}"
                )
            return service
        names = [service.name for service in self.served.services]
        rest = f" and {len(names) - _SHOWN_MODELS} others" if len(names) > _SHOWN_MODELS else ""
        known = ", ".join(names[:_SHOWN_MODELS]) + rest if names else "none"
        raise NotFound(f"no model is called {name[:_SHOWN_CHARACTERS]!r}; this node serves {known}")

    def codec(self, service: ModelService) -> tuple[Endpoint, wire.GrpcCodec]:
        """The endpoint of a model that tensors reach, and the codec for it.

        Raises:
            InvalidRequest: tensors cannot say what this model takes or gives.
        """
        found = self._codecs.get(service)
        if found is None:
            bundle = service.config.bundle
            endpoint = bundle.manifest.tensor_endpoint
            if endpoint is None or endpoint.signature is None:
                routes = ", ".join(f"/models/{service.name}/{each.name}" for each in service.manifest.endpoints)
                raise InvalidRequest(
                    f"model {service.name!r} takes and gives more than tensors; POST JSON to {routes} over HTTP"
                )
            version, labels = str(bundle.version), bundle.manifest.labels_by_output
            codec = wire.GrpcCodec(endpoint.signature, bundle.name, version, self.memory, labels, self._limits)
            found = self._codecs[service] = (endpoint, codec)
        return found
