"""Routes that OpenAI clients call: ``/v1/models``, ``/v1/embeddings``.

They belong to the node and not to a model, since a request names its model in its body. A model is there under its
name, ``NAME:VERSION`` and ``NAME:ALIAS`` for as long as it is published.
"""

from __future__ import annotations

from functools import partial

import msgspec

from setpoint.core import EMBED, EmbeddingForm, Endpoint, embedding_form
from setpoint.node.answer_headers import model_line
from setpoint.node.door import Door
from setpoint.node.http import Exchange
from setpoint.node.requests import Canceller, HttpCallRequest
from setpoint.node.router import Routes
from setpoint.node.service import ModelService
from setpoint.node.terms import read_terms
from setpoint.wire import (
    EmbeddingsRequest,
    ListedModel,
    UnknownModel,
    asked_model,
    decode_embeddings,
    encode_embeddings,
    listed_model,
    model_arguments,
    model_list,
)


class _Published(msgspec.Struct, frozen=True):
    """A model under one of its ids: ``line`` names it in answers, ``endpoint`` and ``form`` are of what embeds."""

    service: ModelService
    listed: ListedModel
    line: bytes
    endpoint: Endpoint | None = None
    form: EmbeddingForm | None = None


class OpenAIRoutes:
    """The models of a node as OpenAI clients see them. They may come and go while it is in use."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._by_id: dict[str, _Published] = {}

    def server_routes(self) -> Routes:
        """Routes that are there whatever is served."""
        no_text = partial(self._generate, "text")
        return {
            ("GET", "/v1/models"): self._list,
            ("POST", "/v1/embeddings"): self._embed,
            ("POST", "/v1/chat/completions"): no_text,
            ("POST", "/v1/completions"): no_text,
        }

    def publish(self, service: ModelService) -> Routes:
        """Take requests that name this model, which must not be published; returns the routes that are its own."""
        bundle = service.config.bundle
        listed = listed_model(bundle.name, bundle.packed_at)
        line = model_line(bundle.name, bundle.digest)
        endpoint = next((one for one in bundle.manifest.endpoints if one.task == EMBED), None)
        # Only Python classes read native JSON in the worker, which is what these routes speak to a model.
        if endpoint is not None and bundle.manifest.variants[0].engine == "python":
            form = embedding_form(endpoint, bundle.manifest.schemas)
            published = _Published(service, listed, line, endpoint, form)
        else:
            published = _Published(service, listed, line)
        ids = [bundle.name, *(f"{bundle.name}:{label}" for label in (bundle.version, *bundle.aliases))]
        self._by_id |= dict.fromkeys(ids, published)
        if published.form is None:
            return {}
        body = msgspec.json.encode(listed)
        return {("GET", f"/v1/models/{one}"): lambda exchange: exchange.respond(200, body) for one in ids}

    def withdraw(self, name: str) -> None:
        """Take no more requests that name this model."""
        self._by_id = {one: found for one, found in self._by_id.items() if found.service.name != name}

    def _list(self, exchange: Exchange) -> None:
        usable = {found.listed.id: found.listed for found in self._by_id.values() if found.form is not None}
        exchange.respond(200, model_list(list(usable.values())))

    def _embed(self, exchange: Exchange) -> None:
        self._door.refuse_while_draining()
        self._door.check_json(exchange)
        request = decode_embeddings(exchange.body)
        found = self._by_id.get(request.model)
        if found is None or found.endpoint is None or found.form is None:
            raise self._unknown(request.model, "embeds text")
        exchange.lines += found.line
        exchange.body = model_arguments(request, found.form)
        waiting = _EmbeddingRequest(exchange, found.endpoint.name, request, found.form, found.service)
        read_terms(exchange.headers, waiting)
        found.service.submit(waiting)

    def _generate(self, what: str, exchange: Exchange) -> None:
        self._door.refuse_while_draining()
        self._door.check_json(exchange)
        raise self._unknown(asked_model(exchange.body), f"generates {what}")

    def _unknown(self, model: str, task: str) -> UnknownModel:
        shown = repr(model[:80])
        if model not in self._by_id:
            return UnknownModel(f"no model {shown} is served here; GET /v1/models lists what there is")
        return UnknownModel(f"model {shown} is served here, but not as one that {task}; GET /docs lists how to call it")


class _EmbeddingRequest(HttpCallRequest):
    """Texts or token ids that wait for their vectors, in the lane of native requests: rows of both run together."""

    __slots__ = ("_asked", "_form")

    def __init__(
        self, exchange: Exchange, endpoint: str, asked: EmbeddingsRequest, form: EmbeddingForm, canceller: Canceller
    ) -> None:
        super().__init__(exchange, endpoint, len(asked.inputs), False, canceller)
        self._asked = asked
        self._form = form

    def answer(self, json: bytes) -> None:
        """Write the vectors."""
        super().answer(encode_embeddings(json, self._asked, self._form))
