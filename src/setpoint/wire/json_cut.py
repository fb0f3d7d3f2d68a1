"""Large ``data`` lists of a V2 request, cut out of its JSON, so that what is left is short and read as ever.

Where a list stands is guessed from the text around it, and the guess cannot do harm: a list that is cut out must prove
to be valid JSON by itself and to be some input's ``data``; otherwise the request is read whole, the slow way.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence

import msgspec

_KEY = b'"data"'
_LIST = re.compile(rb"[ \t\n\r]*:[ \t\n\r]*(\[)[ \t\n\r]*(?:(\[)|[-0-9])")
_WORTHWHILE_BYTES = 16 * 1024
_NONCE = secrets.token_hex(16).encode()
"""So that nobody else can write a mark."""
_MARK = re.compile(rb'\["%b:(\d+)"\]' % _NONCE)


class Cut(msgspec.Struct, frozen=True):
    """A request without its large lists.

    Attributes:
        rest: the JSON, a mark in the place of each list that was cut out.
        spans: start and end of each of those in the original.
    """

    rest: bytes
    spans: Sequence[tuple[int, int]]

    def span_of(self, data: msgspec.Raw | msgspec.UnsetType) -> int:
        """Which list a mark stands for; -1 where it is none."""
        if isinstance(data, msgspec.UnsetType):
            return -1
        found = _MARK.fullmatch(data)
        return int(found[1]) if found else -1


def cut(text: bytes) -> Cut:
    """Cut the large lists out that look like lists of numbers."""
    parts: list[bytes] = []
    spans: list[tuple[int, int]] = []
    position = copied = 0
    while (key := text.find(_KEY, position)) >= 0:
        position = key + len(_KEY)
        opening = _LIST.match(text, position)
        if opening is None:
            continue
        start = opening.start(1)
        # The next key is looked for behind what was looked through: many keys must not each look through all the text.
        if opening[2]:
            quote = text.find(b'"', start)
            quote = len(text) if quote < 0 else quote
            brace = text.find(b"}", start, quote)
            position = quote if brace < 0 else brace
            end = text.rfind(b"]", start, position) + 1
        else:
            position = end = text.find(b"]", start) + 1  # one look instead of three: a flat list ends where any does
            if not end:
                break
        if end - start >= _WORTHWHILE_BYTES:
            parts += (text[copied:start], b'["%b:%d"]' % (_NONCE, len(spans)))
            spans.append((start, end))
            copied = end
    parts.append(text[copied:])
    return Cut(b"".join(parts) if spans else text, spans)
