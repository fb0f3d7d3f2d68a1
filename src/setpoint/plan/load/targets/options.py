"""What the user says of the requests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec


class RequestOptions(msgspec.Struct, frozen=True):
    """How requests are made.

    Attributes:
        data: a ``.jsonl`` or ``.npz`` file.
        body: one body for all requests, sent as it is.
        headers: sent with each request, in lower case; ``content-type`` is JSON unless given.
        rows: of one request, where they are made up or cut from an ``.npz``.
        length: of free axes other than the first, where they are made up.
        seed: of made-up values.
        wire: how tensors travel by V2 over HTTP: ``json`` or ``binary``.
    """

    data: Path | None = None
    body: bytes | None = None
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    rows: int = 1
    length: int = 8
    seed: int = 1
    wire: str = "json"
