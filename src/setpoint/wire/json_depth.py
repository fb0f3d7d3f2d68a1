"""How deep JSON is nested, before anything follows it down.

A decoder that goes down with the text is stopped by the interpreter's own limit only, which nobody chose.
"""

from __future__ import annotations

import numpy as np

from setpoint.core import InvalidRequest

_BEYOND_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1
_QUOTE = ord('"')


def check_depth(text: bytes | memoryview, limit: int) -> None:
    """Refuse JSON in which more than ``limit`` lists and objects lie within each other.

    Raises:
        InvalidRequest: it is deeper.
    """
    if len(text) <= 2 * limit:  # what is opened must be closed; what is not is refused by whoever reads it
        return
    text = bytes(text)
    if text.count(b"[") + text.count(b"{") > limit and depth(text) > limit:
        raise InvalidRequest(
            f"the JSON is nested too deeply: in more than {limit} levels, the limit (limits.json_depth_limit)"
        )


def depth(text: bytes) -> int:
    """Levels of lists and objects in well-formed JSON; of anything else, some number.

    Brackets within strings do not count. Two quotes side by side may go: whether a bracket stands in a string is
    whether an odd number of quotes stands before it.
    """
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = np.frombuffer(text.translate(None, _BEYOND_STRUCTURE).replace(b'""', b""), np.uint8)
    steps = _STEPS[marks]
    quotes = marks == _QUOTE
    if quotes.any():
        steps[np.cumsum(quotes, dtype=np.int64) & 1 == 1] = 0
    return int(np.cumsum(steps, dtype=np.int64).max(initial=0))
