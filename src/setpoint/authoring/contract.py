"""The contract of an endpoint, read from its annotations; and its description as a manifest records it."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, get_args, get_origin

import msgspec

from setpoint.authoring.audio import Audio
from setpoint.authoring.codec import ENCODER, SUPPORTED, decoder, schema_hook
from setpoint.authoring.columns import Column, input_column, output_columns
from setpoint.authoring.media import Image
from setpoint.authoring.model import MarkedMethod, marked_methods
from setpoint.core import Endpoint, InvalidConfiguration, Parameter, Signature, embedding_form

SCHEMA_REFERENCE = "#/components/schemas/{name}"
REQUIRED: Any = inspect.Parameter.empty
_STREAMS = (
    collections.abc.Iterator,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncGenerator,
)
_BODY_TYPES = (bytes, Image, Audio)


class Argument(msgspec.Struct, frozen=True):
    """One argument of an endpoint.

    Attributes:
        name: in Python and in JSON.
        annotation: its type; of the whole list where the endpoint is batched.
        default: ``REQUIRED`` where there is none.
        keyword_only: it stands after ``*``.
    """

    name: str
    annotation: Any
    default: Any = REQUIRED
    keyword_only: bool = False


class TensorContract(msgspec.Struct, frozen=True):
    """An endpoint said in tensors.

    Attributes:
        inputs: argument name → column. Arguments with a default are not among them and keep it.
        outputs: columns of the result, in order.
        apart: takes a result apart into one value per output column.
    """

    inputs: dict[str, Column]
    outputs: tuple[Column, ...]
    apart: Callable[[Any], list[Any]]


class Contract(msgspec.Struct, frozen=True):
    """What an endpoint takes and gives.

    Attributes:
        owner: name of the class, for messages.
        name: of the endpoint.
        attribute: of the method on an instance.
        arguments: in the method's order.
        result: type of the answer; of one item where it streams.
        batch_rows: as ``Endpoint.batch_rows``.
        streams: as ``Endpoint.streams``.
        body_argument: name of the one bytes, Image or Audio argument that may be the raw body; empty for none.
        tensors: None where tensors do not suffice.
        summary: first line of the docstring.
        task, dimensions: as ``Endpoint``'s.
    """

    owner: str
    name: str
    attribute: str
    arguments: tuple[Argument, ...]
    result: Any
    batch_rows: int
    streams: bool
    body_argument: str
    tensors: TensorContract | None
    summary: str
    task: str = ""
    dimensions: tuple[int, ...] = ()

    @property
    def signature(self) -> Signature | None:
        """The V2 signature, where tensors suffice."""
        if self.tensors is None:
            return None
        inputs = tuple(column.spec for column in self.tensors.inputs.values())
        return Signature(inputs, tuple(column.spec for column in self.tensors.outputs), batched=self.batch_rows > 0)

    def request_type(self) -> type[msgspec.Struct]:
        """The type of the JSON object that holds the arguments; unknown keys are refused."""
        fields = [
            (argument.name, argument.annotation)
            if argument.default is REQUIRED
            else (argument.name, argument.annotation, msgspec.field(default_factory=_always(argument.default)))
            for argument in self.arguments
        ]
        return msgspec.defstruct(self.name, fields, kw_only=True, forbid_unknown_fields=True)


def _always(default: Any) -> Callable[[], Any]:
    """A factory even for immutable defaults: msgspec refuses a list or dict with content as a plain one."""
    return lambda: default


def contracts(model_class: type) -> tuple[Contract, ...]:
    """The contracts of a model's endpoints, in the order of their definition.

    Raises:
        InvalidConfiguration: no endpoint; a missing or unsupported annotation; a batched endpoint without lists. The
            message names class, endpoint and argument.
    """
    return tuple(_contract(model_class, method) for method in marked_methods(model_class))


def describe(model_class: type) -> tuple[tuple[Endpoint, ...], dict[str, Any]]:
    """Describe a model class for its manifest.

    Returns:
        its endpoints, and the JSON Schema definitions they refer to as ``#/components/schemas/NAME``.

    Raises:
        InvalidConfiguration: as ``contracts``.
    """
    found = contracts(model_class)
    annotations = [kind for one in found for kind in (*(argument.annotation for argument in one.arguments), one.result)]
    try:
        # All at once: msgspec then gives two types of one name two names.
        schemas, definitions = msgspec.json.schema_components(
            annotations, schema_hook=schema_hook, ref_template=SCHEMA_REFERENCE
        )
    except (TypeError, RuntimeError) as error:
        raise InvalidConfiguration(f"{model_class.__name__}: {error}") from error
    remaining = iter(schemas)
    endpoints = tuple(_endpoint(one, remaining) for one in found)
    for one, endpoint in zip(found, endpoints, strict=True):
        if endpoint.task:
            try:
                embedding_form(endpoint, definitions)
            except InvalidConfiguration as error:
                raise InvalidConfiguration(f"{one.owner}.{one.attribute}: {error}") from error
    return endpoints, definitions


def _endpoint(contract: Contract, schemas: collections.abc.Iterator[dict[str, Any]]) -> Endpoint:
    parameters = tuple(_parameter(argument, next(schemas)) for argument in contract.arguments)
    return Endpoint(
        name=contract.name,
        parameters=parameters,
        result=next(schemas),
        batch_rows=contract.batch_rows,
        streams=contract.streams,
        body="bytes" if contract.body_argument else "json",
        signature=contract.signature,
        summary=contract.summary,
        task=contract.task,
        dimensions=contract.dimensions,
    )


def _parameter(argument: Argument, schema: dict[str, Any]) -> Parameter:
    if argument.default is REQUIRED:
        return Parameter(argument.name, schema)
    try:
        default = msgspec.json.decode(ENCODER.encode(argument.default))
    except (TypeError, ValueError) as error:
        raise InvalidConfiguration(f"default of argument {argument.name!r} has no JSON form: {error}") from error
    return Parameter(argument.name, schema | {"default": default}, required=False)


def _contract(model_class: type, method: MarkedMethod) -> Contract:
    where = f"{model_class.__name__}.{method.attribute}"
    batch_rows = method.mark.batch_rows
    arguments, returned = _annotations(where, method)
    streams = get_origin(returned) in _STREAMS or returned in _STREAMS
    if streams:
        if batch_rows:
            raise InvalidConfiguration(f"{where}: a batched endpoint cannot stream; take batch={batch_rows} away")
        if not get_args(returned):
            raise InvalidConfiguration(f"{where} streams: say what, such as Iterator[str]")
        returned = get_args(returned)[0]
    for argument in arguments:
        _check_supported(f"{where}: argument {argument.name!r}", argument.annotation)
    _check_supported(f"{where}: the result", returned)
    if batch_rows:
        _check_batched(where, arguments, returned)
    contract = Contract(
        owner=model_class.__name__,
        name=method.mark.name,
        attribute=method.attribute,
        arguments=arguments,
        result=returned,
        batch_rows=batch_rows,
        streams=streams,
        body_argument=_body_argument(arguments, batched=batch_rows > 0),
        tensors=None if streams else _tensors(arguments, returned, batched=batch_rows > 0),
        summary=(inspect.getdoc(method.function) or "").partition("\n")[0],
        task=method.mark.task,
        dimensions=method.mark.dimensions,
    )
    try:
        contract.request_type()
    except (TypeError, ValueError) as error:
        raise InvalidConfiguration(f"{where}: {error}") from error
    return contract


def _annotations(where: str, method: MarkedMethod) -> tuple[tuple[Argument, ...], Any]:
    try:
        hints = typing.get_type_hints(method.function, include_extras=True)
        parameters = list(inspect.signature(method.function).parameters.values())
    except InvalidConfiguration as error:
        raise InvalidConfiguration(f"{where}: {error}") from error
    except Exception as error:  # evaluating the user's annotations runs the user's expressions
        raise InvalidConfiguration(
            f"{where}: its annotations cannot be read: {type(error).__name__}: {error}"
        ) from error
    arguments = []
    for parameter in parameters[1:] if method.takes_self else parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise InvalidConfiguration(f"{where}: {parameter} cannot be called over HTTP; name every argument")
        if parameter.name not in hints:
            raise InvalidConfiguration(
                f"{where}: argument {parameter.name!r} needs an annotation; supported: {SUPPORTED}"
            )
        keyword_only = parameter.kind is parameter.KEYWORD_ONLY
        arguments.append(Argument(parameter.name, hints[parameter.name], parameter.default, keyword_only))
    if "return" not in hints:
        raise InvalidConfiguration(
            f"{where}: the result needs an annotation; supported: {SUPPORTED}, Iterator[T] to stream"
        )
    return tuple(arguments), hints["return"]


def _check_supported(what: str, annotation: Any) -> None:
    try:
        msgspec.json.schema_components([annotation], schema_hook=schema_hook)
        decoder(annotation)
    except (TypeError, ValueError, RuntimeError, RecursionError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        because = f" ({reason})" if reason.startswith("Type unions") else ""  # the others only say "custom type"
        raise InvalidConfiguration(
            f"{what}: {_spelled(annotation)} is not supported{because}; supported: {SUPPORTED}"
        ) from error


def _check_batched(where: str, arguments: tuple[Argument, ...], returned: Any) -> None:
    if not arguments:
        raise InvalidConfiguration(f"{where}: a batched endpoint needs an argument: a list with one element per row")
    for argument in arguments:
        if not _is_list(argument.annotation):
            raise InvalidConfiguration(
                f"{where}: argument {argument.name!r} of a batched endpoint is a list with one element per row: "
                f"list[{_spelled(argument.annotation)}], not {_spelled(argument.annotation)}"
            )
        if argument.default is not REQUIRED:
            raise InvalidConfiguration(
                f"{where}: argument {argument.name!r} of a batched endpoint has one element per row; "
                "it cannot have a default"
            )
    if not _is_list(returned):
        raise InvalidConfiguration(
            f"{where}: the result of a batched endpoint is a list with one element per row: "
            f"list[{_spelled(returned)}], not {_spelled(returned)}"
        )


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is list and len(get_args(annotation)) == 1


def _body_argument(arguments: tuple[Argument, ...], *, batched: bool) -> str:
    required = [argument for argument in arguments if argument.default is REQUIRED]
    if len(required) != 1:
        return ""
    annotation = required[0].annotation
    kind = get_args(annotation)[0] if batched else annotation
    return required[0].name if kind in _BODY_TYPES else ""


def _tensors(arguments: tuple[Argument, ...], returned: Any, *, batched: bool) -> TensorContract | None:
    inputs: dict[str, Column] = {}
    for argument in arguments:
        if argument.default is not REQUIRED:
            continue
        column = input_column(argument.name, argument.annotation)
        if column is None:
            return None
        inputs[argument.name] = column
    outputs = output_columns(returned, batched=batched)
    if not inputs or outputs is None:
        return None
    return TensorContract(inputs, *outputs)


def _spelled(annotation: Any) -> str:
    plain = isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias)
    return annotation.__name__ if plain else str(annotation).replace("typing.", "")
