"""Triton's generate extension: text in, text out, as one answer or as server-sent events.

Source: Triton, ``extension_generate.md``. What an endpoint calls its text does not matter: ``text_input`` is given to
the parameter of that name, or to the only one that takes a string.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from setpoint.core import Endpoint, InvalidRequest, Parameter, SetpointError
from setpoint.wire import sse
from setpoint.wire.json_body import decoding

TEXT_INPUT = "text_input"
_TEXT = {"type": "string"}


class _Body(msgspec.Struct):
    text_input: str
    id: str = ""
    parameters: dict[str, msgspec.Raw] = {}


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class TextEndpoint(msgspec.Struct, frozen=True):
    """An endpoint that generates.

    Attributes:
        endpoint: of the model.
        parameter: that takes the text.
    """

    endpoint: Endpoint
    parameter: str


def text_endpoint(endpoints: Iterable[Endpoint], *, streams: bool) -> TextEndpoint | None:
    """The first endpoint that takes one text and gives text, in pieces (``streams``) or whole; None without one."""
    for endpoint in endpoints:
        if endpoint.streams == streams and _is_text(endpoint, endpoint.result):
            takes = [parameter for parameter in endpoint.parameters if _is_text(endpoint, parameter.schema)]
            named = [parameter for parameter in takes if parameter.name == TEXT_INPUT] or takes
            others = [parameter for parameter in endpoint.parameters if parameter not in named]
            if len(named) == 1 and not any(parameter.required for parameter in others):
                return TextEndpoint(endpoint, named[0].name)
    return None


def _is_text(endpoint: Endpoint, schema: dict[str, Any]) -> bool:
    if endpoint.batch_rows:
        schema = schema.get("items") or {}
    return schema.get("type") == "string" and "contentEncoding" not in schema


class GenerateCodec:
    """Reads requests for one text endpoint and writes its answers."""

    def __init__(self, text: TextEndpoint, model: str, version: str) -> None:
        self._text = text
        self._parameters: dict[str, Parameter] = {one.name: one for one in text.endpoint.parameters}
        names = {"model_name": model, "model_version": version}
        self._names = msgspec.json.encode(names)[1:-1]

    def decode(self, body: bytes) -> tuple[bytes, str]:
        """The endpoint's own arguments as JSON, and the request's id.

        Other keys, of the request or of its ``parameters``, are arguments where the endpoint has one of that name, and
        read over where not: clients send ``stream`` or ``temperature`` to whatever they talk to.

        Raises:
            InvalidRequest: malformed, or without a text.
        """
        with decoding("a generate request"):
            request = _decode_body(body)
            keys = _decode_object(body)
        given = {**keys, **request.parameters}
        arguments = {name: given[name] for name in self._parameters if name in given}
        arguments[self._text.parameter] = msgspec.Raw(msgspec.json.encode(request.text_input))
        if self._text.endpoint.batch_rows:
            arguments = {name: msgspec.Raw(b"[%b]" % bytes(value)) for name, value in arguments.items()}
        return msgspec.json.encode(arguments), request.id

    def answer(self, result: bytes, request_id: str) -> bytes:
        """What the endpoint gave, as an answer; of a stream, as one event's data."""
        if self._text.endpoint.batch_rows:
            result = result.strip()[1:-1]
        named = b'"id":%b,' % msgspec.json.encode(request_id) if request_id else b""
        return b'{%b%b,"text_output":%b}' % (named, self._names, result)


def generate_error(error: SetpointError) -> bytes:
    """The event that ends a stream which has begun; Triton sends it like any other."""
    return sse.event(msgspec.json.encode({"error": error.message}))


def no_text(model: str, *, streams: bool) -> InvalidRequest:
    """Why a model cannot generate."""
    how = "in pieces" if streams else "as a whole"
    other = "generate" if streams else "generate_stream"
    return InvalidRequest(
        f"model {model!r} has no endpoint that takes one text and gives text {how}; try {other}, or see GET /docs"
    )
