"""Reading JSON that strangers wrote: every failure is the client's, in one sentence."""

from __future__ import annotations

from types import TracebackType

import msgspec

from setpoint.core import InvalidRequest

_EXCERPT_CHARACTERS = 120


class decoding:  # lower case: it reads as a statement, ``with decoding("a V2 request")``
    """Turn what a JSON decoder raises into ``InvalidRequest``, naming what was being read.

    A class and not ``contextlib.contextmanager``: this stands on the hot path, where a generator costs a microsecond.
    """

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Translate."""
        if kind is None:
            return
        if isinstance(error, msgspec.ValidationError):
            raise InvalidRequest(f"not {self._what}: {error}") from error
        if isinstance(error, msgspec.DecodeError | UnicodeDecodeError):
            raise InvalidRequest(f"not {self._what}: the body is not valid JSON: {error}") from error
        if isinstance(error, RecursionError):
            raise InvalidRequest(f"not {self._what}: the JSON is nested too deeply") from error


def excerpt(text: str) -> str:
    """A stranger's text, short enough to repeat in an error."""
    return text if len(text) <= _EXCERPT_CHARACTERS else text[:_EXCERPT_CHARACTERS] + "…"
