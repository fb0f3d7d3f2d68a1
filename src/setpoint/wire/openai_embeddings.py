"""``POST /v1/embeddings`` and ``GET /v1/models`` as OpenAI clients speak them; the model itself speaks native JSON.

Source: OpenAI API reference, "Create embeddings", "List models". Fields that are not understood are ignored, as clients
of the API expect; ``user`` is among them.

Tokens: where the model's rows say how many tokens they were (``core.embedding``), ``usage`` is their sum. Token ids
count themselves. Otherwise ``usage`` is an estimate of one token for every 4 bytes of UTF-8, and says so.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from setpoint.core import COUNT_FIELD, VECTOR_FIELD, EmbeddingForm, ModelError
from setpoint.wire.json_body import decoding
from setpoint.wire.openai_errors import InvalidParameter

INPUT_LIMIT = 2048
"""Elements of ``input``; OpenAI's own limit."""
_BYTES_PER_TOKEN = 4
ESTIMATE = f"estimated: one token for every {_BYTES_PER_TOKEN} bytes of UTF-8"
_LONGEST_EXCERPT = 80


class _Body(msgspec.Struct, gc=False):
    model: str
    input: msgspec.Raw
    encoding_format: str | None = None
    dimensions: int | None = None


class _Named(msgspec.Struct, gc=False):
    model: str = ""


class _Row(msgspec.Struct, gc=False):
    vector: msgspec.Raw = msgspec.field(name=VECTOR_FIELD)
    tokens: int = msgspec.field(name=COUNT_FIELD)


class EmbeddingsRequest(msgspec.Struct, frozen=True):
    """A decoded request.

    Attributes:
        model: as the client named it; the answer repeats it.
        inputs: texts, or lists of token ids; never both.
        are_texts: which of the two.
        encoding: of the vectors in the answer: JSON numbers, or little-endian float32 in base64.
        dimensions: the length asked for; 0 for the model's own.
    """

    model: str
    inputs: list[str] | list[list[int]]
    are_texts: bool
    encoding: Literal["float", "base64"]
    dimensions: int


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_named = msgspec.json.Decoder(_Named).decode
_decode_input = msgspec.json.Decoder(str | list[str | int | list[int]]).decode
_decode_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_rows = msgspec.json.Decoder(list[_Row]).decode
_decode_vector = msgspec.json.Decoder(list[float | None]).decode


def decode_embeddings(body: bytes) -> EmbeddingsRequest:
    """Read a request's body.

    Raises:
        InvalidRequest: it is no such request; ``param`` names the field where one is at fault.
    """
    with decoding("a request for embeddings"):
        request = _decode_body(body)
    encoding = "float" if request.encoding_format is None else request.encoding_format
    if encoding not in ("float", "base64"):
        raise InvalidParameter(
            f"expected encoding_format 'float' or 'base64', got {encoding[:_LONGEST_EXCERPT]!r}", "encoding_format"
        )
    dimensions = 0 if request.dimensions is None else request.dimensions
    if dimensions < 0 or request.dimensions == 0:
        raise InvalidParameter(f"expected dimensions to be above 0, got {dimensions}", "dimensions")
    inputs, are_texts = _read_input(request.input)
    return EmbeddingsRequest(
        request.model, inputs, are_texts, "base64" if encoding == "base64" else "float", dimensions
    )


def _read_input(raw: msgspec.Raw) -> tuple[list[str] | list[list[int]], bool]:
    try:
        given = _decode_input(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParameter(
            f"expected input to be a text, a list of texts, token ids or lists of them: {error}",
            "input",
        ) from error
    elements = [given] if isinstance(given, str) else given
    if not elements or any(element == [] for element in elements):
        raise InvalidParameter("input is empty: there is nothing to embed", "input")
    texts = [element for element in elements if isinstance(element, str)]
    ids = [element for element in elements if isinstance(element, int)]
    lists = [element for element in elements if isinstance(element, list)]
    if len(texts) not in (0, len(elements)) or len(ids) not in (0, len(elements)):
        raise InvalidParameter("input mixes texts and token ids; send one kind in a request", "input")
    inputs = texts or lists or [ids]
    if len(inputs) > INPUT_LIMIT:
        raise InvalidParameter(f"input has {len(inputs)} elements, at most {INPUT_LIMIT} are taken", "input")
    if not texts and min(map(min, lists or [ids])) < 0:
        raise InvalidParameter("a token id is 0 or more", "input")
    return inputs, bool(texts)


def model_arguments(request: EmbeddingsRequest, form: EmbeddingForm) -> bytes:
    """The body of the native route that computes the vectors.

    Raises:
        InvalidRequest: the model does not take what the request holds, or its vectors cannot have the length asked for.
    """
    if request.are_texts and not form.texts:
        raise InvalidParameter(f"model {request.model!r} takes token ids, not texts", "input")
    if not request.are_texts and not form.token_ids:
        raise InvalidParameter(
            f"model {request.model!r} takes texts, not token ids; send the texts themselves "
            "(LangChain: check_embedding_ctx_length=False)",
            "input",
        )
    if request.dimensions:
        known = sorted({*form.dimensions, form.length} - {0})
        if request.dimensions not in known:
            lengths = ", ".join(map(str, known)) or "their own length only"
            raise InvalidParameter(
                f"model {request.model!r} gives vectors of {lengths} dimensions, not {request.dimensions}", "dimensions"
            )
    return msgspec.json.encode({form.argument: request.inputs})


def encode_embeddings(answer: bytes, request: EmbeddingsRequest, form: EmbeddingForm) -> bytes:
    """The response's body, from what the model's native route answers.

    Vectors that are wanted as JSON numbers at their own length are passed on as text and never read.

    Raises:
        ModelError: the answer is not what the model's schema says.
    """
    try:
        rows = _decode_rows(answer) if form.counts_tokens else None
        vectors = _decode_raws(answer) if rows is None else [row.vector for row in rows]
        cut = request.dimensions if request.dimensions != form.length else 0
        encoded = [_encoded(vector, request.encoding, cut) for vector in vectors]
    except msgspec.MsgspecError as error:
        raise ModelError(f"model {request.model!r} answered something that is no list of vectors: {error}") from error
    if rows is not None:
        usage = _usage(sum(row.tokens for row in rows))
    elif request.are_texts:
        usage = _usage(_estimated_tokens(request.inputs), ESTIMATE)
    else:
        usage = _usage(sum(map(len, request.inputs)))
    data = b",".join(
        [b'{"object":"embedding","index":%d,"embedding":%b}' % (index, text) for index, text in enumerate(encoded)]
    )
    model = msgspec.json.encode(request.model)
    return b'{"object":"list","data":[%b],"model":%b,"usage":%b}' % (data, model, msgspec.json.encode(usage))


def _encoded(vector: msgspec.Raw, encoding: str, cut: int) -> bytes:
    if encoding == "float" and not cut:
        return bytes(vector)
    array: NDArray[np.float32] = np.array(_decode_vector(vector), "<f4")
    if cut:
        array = array[:cut]
        length = float(np.linalg.norm(array))
        array = array / np.float32(length) if length > 0 else array
    if encoding == "base64":
        return b'"%b"' % base64.b64encode(array.tobytes())
    return orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)


def _estimated_tokens(texts: Iterable[Any]) -> int:
    return sum(max(1, -(-len(str(text).encode()) // _BYTES_PER_TOKEN)) for text in texts)


def _usage(tokens: int, counted: str = "") -> dict[str, Any]:
    usage: dict[str, Any] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return usage | {"counted": counted} if counted else usage


class ListedModel(msgspec.Struct, frozen=True):
    """A model as ``GET /v1/models`` lists it.

    Attributes:
        id: what a request's ``model`` may say.
        created: seconds since 1970.
    """

    id: str
    created: int
    object: str = "model"
    owned_by: str = "setpoint"


def listed_model(name: str, packed_at: str) -> ListedModel:
    """A model's entry.

    Args:
        name: of the model.
        packed_at: ISO 8601.
    """
    return ListedModel(name, int(datetime.fromisoformat(packed_at).timestamp()))


def model_list(models: Sequence[ListedModel]) -> bytes:
    """Body of ``GET /v1/models``."""
    return msgspec.json.encode({"object": "list", "data": models})


def asked_model(body: bytes) -> str:
    """The ``model`` that any OpenAI request names; empty where it names none.

    Raises:
        InvalidRequest: the body is no JSON object.
    """
    with decoding("an OpenAI request"):
        return _decode_named(body).model
