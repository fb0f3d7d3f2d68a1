"""A form for an endpoint of a Python class: which of its arguments come as files, and the form as its worker reads it.

Fields are called as the arguments are. An argument that is a list, and every argument of a batched endpoint, takes one
part for each element.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from setpoint.core import Endpoint, InvalidRequest, pack_form

FORM = b"multipart/form-data"


def file_arguments(endpoint: Endpoint) -> frozenset[str]:
    """Names of the arguments that are files, or lists of them; an endpoint without any takes no forms."""
    return frozenset(parameter.name for parameter in endpoint.parameters if is_file(parameter.schema))


def is_file(schema: Mapping[str, Any]) -> bool:
    """Whether a schema is that of bytes, or of a list of them."""
    if schema.get("contentEncoding") == "base64":
        return True
    items = schema.get("items")
    if isinstance(items, Mapping) and is_file(items):
        return items.get("type") != "array"
    choices = schema.get("anyOf")
    return isinstance(choices, list | tuple) and any(isinstance(one, Mapping) and is_file(one) for one in choices)


def read_form(endpoint: Endpoint, content_type: bytes, body: bytes) -> tuple[bytes, int]:
    """Take a form apart.

    Args:
        endpoint: that it is for.
        content_type: of the body; its boundary stands there.
        body: whole.

    Returns:
        what the worker gets in place of JSON, and how many rows it holds.

    Raises:
        InvalidRequest: malformed, an unknown field, or arguments with different numbers of rows.
        RequestTooLarge: too many parts or headers.
    """
    # Imported by the first form: its patterns take a millisecond of every start to compile, and most nodes see none.
    from setpoint.wire.multipart import boundary_of, parts_of

    names = [parameter.name for parameter in endpoint.parameters]
    fields: dict[str, list[memoryview]] = {}
    for part in parts_of(body, boundary_of(content_type)):
        if part.name not in names:
            raise InvalidRequest(f"unknown field {part.name[:100]!r} in the form; expected {', '.join(names)}")
        fields.setdefault(part.name, []).append(part.data)
    rows = 1
    if endpoint.batch_rows:
        counts = {name: len(parts) for name, parts in fields.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name!r} has {count}" for name, count in counts.items())
            raise InvalidRequest(f"arguments have different numbers of rows, one part each: {told}")
        rows = max(counts.values(), default=1)
    return pack_form(fields), rows
