"""The fields of a form become the arguments of an endpoint: files as they are, words as they are, all else as JSON."""

from __future__ import annotations

import enum
import types
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec

from setpoint.authoring import REQUIRED, Argument, Audio, Contract, Image, decoder
from setpoint.core import InvalidRequest

_FILES = (Image, Audio)
_MESSAGE_CHARACTERS = 300
Convert = Callable[[Any], Any]


class _Reader(NamedTuple):
    """How one argument is read: its part, or each of its parts where a ``whole`` then judges them together."""

    part: Convert
    whole: Convert | None = None


class FormReader:
    """Reads forms to one endpoint. Decoders are built when they are first needed: most endpoints never see a form."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._readers: dict[str, _Reader] = {}

    def arguments(self, fields: Mapping[str, Sequence[bytes]]) -> tuple[Any, ...]:
        """The arguments in the method's order, defaults filled in.

        Args:
            fields: by name, the parts.

        Raises:
            InvalidRequest: a field is missing or comes too often, or a part does not fit its argument.
        """
        return tuple(self._argument(argument, fields.get(argument.name, ())) for argument in self._contract.arguments)

    def _argument(self, argument: Argument, parts: Sequence[bytes]) -> Any:
        name = argument.name
        if name not in self._readers:
            self._readers[name] = _reader(argument.annotation)
        reader = self._readers[name]
        if not parts:
            if argument.default is REQUIRED:
                names = ", ".join(one.name for one in self._contract.arguments)
                raise InvalidRequest(f"missing field {name!r} in the form; expected {names}")
            return argument.default
        if reader.whole is not None:
            return self._value(name, [self._value(name, part, reader.part) for part in parts], reader.whole)
        if len(parts) > 1:
            raise InvalidRequest(f"field {name!r} comes {len(parts)} times in the form; it is one value")
        return self._value(name, parts[0], reader.part)

    def _value(self, name: str, given: Any, convert: Convert) -> Any:
        try:
            return convert(given)
        except RecursionError:
            said = "the JSON is nested too deeply"
        except UnicodeDecodeError as error:
            said = f"expected UTF-8, got byte 0x{error.object[error.start]:02x} at position {error.start}"
        except (msgspec.MsgspecError, ValueError, OverflowError) as error:
            said = str(error)
        raise InvalidRequest(f"field {name!r} of the form: {said}"[:_MESSAGE_CHARACTERS])


def _reader(annotation: Any) -> _Reader:
    plain, bounds = _plain(annotation)
    if get_origin(plain) is list and len(get_args(plain)) == 1:
        return _Reader(_converter(get_args(plain)[0]), _bounded(list[Any], bounds))
    return _Reader(_converter(annotation))


def _converter(annotation: Any) -> Convert:
    plain, bounds = _plain(annotation)
    if plain is bytes:
        return _bounded(bytes, bounds)
    if plain in _FILES:
        kind: Convert = plain
        return kind
    decode = decoder(annotation).decode
    if _is_word(plain):  # as it is typed: curl -F name=Bern, not -F name='"Bern"'
        return lambda part: decode(msgspec.json.encode(part.decode()))
    return decode


def _bounded(plain: Any, bounds: Sequence[Any]) -> Convert:
    """Takes a value as it is, within what ``msgspec.Meta`` says of it, such as its greatest length."""
    return partial(msgspec.convert, type=Annotated[(plain, *bounds)] if bounds else plain)


def _plain(annotation: Any, *bounds: Any) -> tuple[Any, tuple[Any, ...]]:
    """Without ``Annotated`` and ``| None``, and what ``Annotated`` said beside it."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0], *bounds, *annotation.__metadata__)
    if get_origin(annotation) in (Union, types.UnionType):
        choices = [choice for choice in get_args(annotation) if choice is not types.NoneType]
        if len(choices) == 1:
            return _plain(choices[0], *bounds)
    return annotation, bounds


def _is_word(plain: Any) -> bool:
    if get_origin(plain) is Literal:
        return all(isinstance(choice, str) for choice in get_args(plain))
    if isinstance(plain, type) and issubclass(plain, enum.Enum):
        return all(isinstance(member.value, str) for member in plain)
    return plain is str
