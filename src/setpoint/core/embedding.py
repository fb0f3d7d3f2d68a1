"""What an endpoint whose task is to embed text takes and gives, read from its schemas: one reading for all who ask.

The forms that fit, as a Python class writes them::

    def embed(self, texts: list[str]) -> list[Tensor["float32", 384]]          # a vector for each text
    def embed(self, texts: list[str | list[int]]) -> list[Embedded]            # texts or token ids; vectors and counts

where ``Embedded`` is a record (struct, dataclass, TypedDict) with the fields ``embedding`` and ``tokens``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from setpoint.core.errors import InvalidConfiguration
from setpoint.core.manifest import EMBED, Endpoint

VECTOR_FIELD = "embedding"
COUNT_FIELD = "tokens"
_FORM = (
    'endpoint(task="embed") takes one argument, list[str], list[list[int]] (token ids) or list[str | list[int]], and '
    "gives a list with one vector of numbers for each element, or one record with the fields "
    f"{VECTOR_FIELD} and {COUNT_FIELD}"
)


class EmbeddingForm(msgspec.Struct, frozen=True):
    """How an endpoint embeds text.

    Attributes:
        argument: name of its argument, a list.
        texts: its elements may be texts.
        token_ids: its elements may be lists of token ids.
        counts_tokens: each row of the answer is a record that also says how many tokens it was.
        length: elements of a vector; 0 where the schema does not say.
        dimensions: other lengths that a vector may be cut to.
    """

    argument: str
    texts: bool
    token_ids: bool
    counts_tokens: bool
    length: int
    dimensions: tuple[int, ...]


def embedding_form(endpoint: Endpoint, schemas: dict[str, Any]) -> EmbeddingForm:
    """Read the form of an endpoint whose task is ``embed``.

    Args:
        endpoint: of a manifest.
        schemas: the manifest's.

    Raises:
        InvalidConfiguration: it has none of the forms that are understood, or says impossible dimensions.
    """
    required = [parameter for parameter in endpoint.parameters if parameter.required]
    if endpoint.task != EMBED or not endpoint.batch_rows or len(required) != 1:
        raise InvalidConfiguration(f"{_FORM}; it is batched (batch=64)")
    kinds = _element_kinds(_items(required[0].schema, schemas), schemas)
    vector = row = _items(endpoint.result, schemas)
    counts = row.get("type") == "object"
    if counts:
        fields = row.get("properties", {})
        if not {VECTOR_FIELD, COUNT_FIELD} <= fields.keys() or _resolved(fields[COUNT_FIELD], schemas).get("type") != (
            "integer"
        ):
            raise InvalidConfiguration(_FORM)
        vector = _resolved(fields[VECTOR_FIELD], schemas)
    if not kinds or not _is_vector(vector, schemas):
        raise InvalidConfiguration(_FORM)
    length = vector.get("maxItems", 0) if vector.get("maxItems") == vector.get("minItems") else 0
    if any(cut < 1 or (length and cut > length) for cut in endpoint.dimensions):
        raise InvalidConfiguration(
            f"dimensions={list(endpoint.dimensions)}: each is a length from 1 to {length or 'that of the vector'}"
        )
    return EmbeddingForm(
        required[0].name, "text" in kinds, "token ids" in kinds, counts, length, tuple(sorted(endpoint.dimensions))
    )


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    found: dict[str, Any] = schema if reference is None else schemas.get(reference.rpartition("/")[2], {})
    return found


def _items(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    schema = _resolved(schema, schemas)
    return _resolved(schema.get("items") or {}, schemas) if schema.get("type") == "array" else {}


def _element_kinds(element: dict[str, Any], schemas: dict[str, Any]) -> set[str]:
    """``text``, ``token ids`` or both; empty where something else may be there too."""
    kinds = set()
    for choice in element.get("anyOf", [element]):
        if choice.get("type") == "string" and "contentEncoding" not in choice:
            kinds.add("text")
        elif _items(choice, schemas).get("type") == "integer":
            kinds.add("token ids")
        else:
            return set()
    return kinds


def _is_vector(schema: dict[str, Any], schemas: dict[str, Any]) -> bool:
    kind = _items(schema, schemas).get("type")
    return "number" in (kind if isinstance(kind, list) else [kind])
