"""A request body becomes the arguments of an endpoint, or one ``InvalidRequest`` that says what is wrong with it."""

from __future__ import annotations

import difflib
import re
from typing import Any

import msgspec

from setpoint.authoring import REQUIRED, Contract, decoder
from setpoint.core import InvalidRequest, is_form, unpack_form
from setpoint.engines.python_form import FormReader

Body = bytes | memoryview
_PLACED = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<place>[^`]*)`)?", re.DOTALL)
_EXPECTED = re.compile(r"Expected `(.*?)`(?:, got `(.*?)`)?", re.DOTALL)
_UNKNOWN = "Object contains unknown field "
_MISSING = "Object missing required field "
_MESSAGE_CHARACTERS = 300


class RequestReader:
    """Reads requests to one endpoint; its decoder is built once, from the annotations."""

    def __init__(self, contract: Contract) -> None:
        self.names = tuple(argument.name for argument in contract.arguments)
        self._decode = decoder(contract.request_type()).decode
        self._contract = contract
        self._form = FormReader(contract)

    def arguments(self, body: Body, raw: bool = False) -> tuple[Any, ...]:
        """The arguments in the method's order, defaults filled in.

        Args:
            body: a JSON object, or a form as ``pack_form`` makes it; empty where the endpoint needs nothing.
            raw: the body is the bytes argument itself.

        Raises:
            InvalidRequest: whatever else it is.
        """
        if raw:
            return self._from_raw(body)
        try:
            if is_form(body):
                return self._form.arguments(unpack_form(body))
            return msgspec.structs.astuple(self._decode(body or b"{}"))
        except msgspec.MsgspecError as error:
            raise InvalidRequest(self._sentence(str(error))) from None
        except RecursionError:
            raise InvalidRequest("the JSON body is nested too deeply") from None
        except (ValueError, OverflowError) as error:  # UnicodeDecodeError is a ValueError
            raise InvalidRequest(f"the JSON body cannot be read: {error}"[:_MESSAGE_CHARACTERS]) from None

    def _from_raw(self, body: Body) -> tuple[Any, ...]:
        wanted = self._contract.body_argument
        if not wanted:
            raise InvalidRequest(f"{self._contract.name} takes {self._expected()}, not raw bytes")
        return tuple(
            self._body_value(argument.annotation, body) if argument.name == wanted else argument.default
            for argument in self._contract.arguments
        )

    def _body_value(self, annotation: Any, body: Body) -> Any:
        batched = self._contract.batch_rows > 0
        kind = annotation.__args__[0] if batched else annotation
        try:
            value = kind(bytes(body))
        except ValueError as error:
            raise InvalidRequest(str(error)) from None
        return [value] if batched else value  # a raw body is one row

    def _sentence(self, message: str) -> str:
        match = _PLACED.fullmatch(message)
        what, place = (match["what"], match["place"] or "") if match else (message, "")
        if what.startswith((_UNKNOWN, _MISSING)):
            sentence = self._about_key(what, place)
        elif expected := _EXPECTED.fullmatch(what):
            wanted, got = expected[1], expected[2] or "something else"
            subject = _spelled(place) if place else "the JSON body"
            sentence = f"{subject}: expected {self._expected() if not place else wanted}, got {got}"
        else:
            sentence = f"{_spelled(place)}: {what}" if place else f"the JSON body cannot be read: {what}"
        return sentence[:_MESSAGE_CHARACTERS]

    def _about_key(self, what: str, place: str) -> str:
        unknown = what.startswith(_UNKNOWN)
        key = what[len(_UNKNOWN if unknown else _MISSING) :].strip("`")
        inside = f" in {_spelled(place)}" if place else ""
        if not unknown:
            return f"missing {key!r}{inside}" + ("" if place else f": expected {self._expected()}")
        if place:
            return f"unknown key {key!r}{inside}"
        near = difflib.get_close_matches(key[:100], self.names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected {self._expected()}"
        return f"unknown key {key[:100]!r}; {hint}"

    def _expected(self) -> str:
        if not self.names:
            return "an empty JSON object"
        keys = (a.name if a.default is REQUIRED else f"{a.name} (optional)" for a in self._contract.arguments)
        return f"a JSON object with {', '.join(keys)}"


def _spelled(place: str) -> str:
    return place.removeprefix(".")
