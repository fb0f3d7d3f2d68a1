"""Annotations become contracts: schemas, signatures, and refusals that name class, endpoint and argument."""

import dataclasses
import enum
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any, Literal, TypedDict

import msgspec
import numpy as np
import pytest

import setpoint as sp
from setpoint.authoring import contracts, describe, model_from_function
from setpoint.core import Endpoint, InvalidConfiguration


class Hit(msgspec.Struct):
    name: str
    score: float


@dataclasses.dataclass
class Box:
    corner: sp.Tensor[np.float32, 2]
    label: str = ""


class Options(TypedDict):
    top: int


class Color(enum.Enum):
    RED = "red"


def endpoint_of(function: Callable[..., Any]) -> Endpoint:
    return describe(model_from_function(function))[0][0]


class Embedder(sp.Model):
    encoder = sp.uses("encoder.onnx")

    @sp.endpoint(batch=64)
    def embed(self, texts: list[str]) -> list[sp.Tensor[np.float32, 384]]:
        """Turn texts into vectors.

        More about it.
        """
        raise NotImplementedError

    @sp.endpoint(name="split")
    def tokens(self, text: str, limit: int = 3) -> Iterator[str]:
        raise NotImplementedError

    def helper(self) -> None:
        """Not an endpoint."""


def test_a_class_is_described_whole() -> None:
    (embed, split), schemas = describe(Embedder)
    assert schemas == {}
    assert (embed.name, embed.batch_rows, embed.streams, embed.body) == ("embed", 64, False, "json")
    assert embed.summary == "Turn texts into vectors."
    assert str(embed.signature) == "texts BYTES[-1] → output FP32[-1, 384]"
    assert embed.signature is not None
    assert embed.signature.batched
    assert embed.parameters[0].schema == {"type": "array", "items": {"type": "string"}}
    assert (split.name, split.streams, split.signature) == ("split", True, None)
    assert [(p.name, p.required, p.schema.get("default")) for p in split.parameters] == [
        ("text", True, None),
        ("limit", False, 3),
    ]
    assert split.result == {"type": "string"}


def test_every_supported_annotation_has_a_schema() -> None:
    def everything(
        a: str,
        b: int,
        c: float,
        d: bool,
        e: bytes,
        f: list[Hit],
        g: dict[str, float],
        h: int | None,
        i: Literal["x", "y"],
        j: Color,
        k: Box,
        m: Options,
        n: np.ndarray[Any, Any],
        o: sp.Tensor[np.int8, None, 3],
        p: sp.Image,
        q: sp.Audio,
        *,
        r: str | int = "one",
    ) -> None: ...

    endpoints, schemas = describe(model_from_function(everything))
    assert [parameter.name for parameter in endpoints[0].parameters] == list("abcdefghijkmnopqr")
    assert set(schemas) == {"Hit", "Color", "Box", "Options"}
    assert endpoints[0].signature is None
    corner = schemas["Box"]["properties"]["corner"]
    assert (corner["type"], corner["minItems"], corner["description"]) == ("array", 2, "float32 [2]")
    shaped = endpoints[0].parameters[13].schema
    assert shaped["items"] == {"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 3}


def test_two_types_of_one_name_stay_apart() -> None:
    def make() -> type:
        class Hit(msgspec.Struct):
            other: int

        return Hit

    other = make()

    def both(a: Hit, b: other) -> None: ...  # type: ignore[valid-type]

    endpoints, schemas = describe(model_from_function(both))
    assert len(schemas) == 2
    assert endpoints[0].parameters[0].schema != endpoints[0].parameters[1].schema


def test_tensors_suffice_for_scalars_lists_arrays_and_records() -> None:
    def scalars(a: int, b: float, c: bool, d: str, e: bytes) -> str: ...  # type: ignore[empty-body]
    def lists(a: list[int], b: list[list[float]], c: sp.Tensor[np.uint8, None, 3]) -> list[bool]: ...  # type: ignore[empty-body]
    def record(image: sp.Image) -> Hit: ...  # type: ignore[empty-body]
    @sp.endpoint(batch=4)
    def rows(a: list[bytes]) -> list[Hit]: ...  # type: ignore[empty-body]

    assert str(endpoint_of(scalars).signature) == (
        "a INT64[1], b FP64[1], c BOOL[1], d BYTES[1], e BYTES[1] → output BYTES[1]"
    )
    assert str(endpoint_of(lists).signature) == "a INT64[-1], b FP64[-1, -1], c UINT8[-1, 3] → output BOOL[-1]"
    assert str(endpoint_of(record).signature) == "image BYTES[1] → name BYTES[1], score FP64[1]"
    assert str(endpoint_of(rows).signature) == "a BYTES[-1] → name BYTES[-1], score FP64[-1]"


def test_tensors_do_not_suffice_where_an_answer_could_be_ragged_or_structured() -> None:
    def nested(a: str) -> list[list[str]]: ...  # type: ignore[empty-body]
    def mapping(a: dict[str, int]) -> int: ...  # type: ignore[empty-body]
    def any_rank(a: sp.Tensor[np.float32]) -> int: ...  # type: ignore[empty-body]
    def optional(a: str) -> str | None: ...
    @sp.endpoint(batch=4)
    def free_rows(a: list[str]) -> list[sp.Tensor[np.float32, None]]: ...  # type: ignore[empty-body]

    for function in (nested, mapping, any_rank, optional, free_rows):
        assert endpoint_of(function).signature is None, function.__name__


def test_arguments_with_a_default_are_left_out_of_the_signature() -> None:
    def tagged(text: str, style: Literal["a", "b"] = "a") -> str: ...  # type: ignore[empty-body]

    assert str(endpoint_of(tagged).signature) == "text BYTES[1] → output BYTES[1]"


def test_the_one_bytes_argument_may_be_the_body() -> None:
    def one(data: bytes, top: int = 3) -> int: ...  # type: ignore[empty-body]
    def two(data: bytes, other: bytes) -> int: ...  # type: ignore[empty-body]
    @sp.endpoint(batch=3)
    def rows(files: list[sp.Image]) -> list[int]: ...  # type: ignore[empty-body]

    assert [endpoint_of(function).body for function in (one, two, rows)] == ["bytes", "json", "bytes"]


def test_generators_stream_whatever_they_are_called() -> None:
    def a(x: int) -> Generator[int, None, None]:
        yield x

    async def b(x: int) -> AsyncIterator[Hit]:
        yield Hit("", x)

    assert endpoint_of(a).streams
    assert endpoint_of(b).streams
    assert endpoint_of(b).result == {"$ref": "#/components/schemas/Hit"}


class Unknown:
    pass


def no_annotation(text) -> str: ...  # type: ignore[no-untyped-def,empty-body]
def no_result(text: str): ...  # type: ignore[no-untyped-def]
def unknown_type(thing: Unknown) -> str: ...  # type: ignore[empty-body]
def inner_unknown(things: list[Unknown]) -> str: ...  # type: ignore[empty-body]
def unknown_result(text: str) -> Unknown: ...  # type: ignore[empty-body]
def mixed_union(thing: sp.Image | int) -> str: ...  # type: ignore[empty-body]
def variadic(*texts: str) -> str: ...  # type: ignore[empty-body]
def bare_stream(text: str) -> Iterator: ...  # type: ignore[type-arg,empty-body]
def unresolvable(text: "NoSuchName") -> str: ...  # type: ignore[name-defined,empty-body]  # noqa: F821
@sp.endpoint(batch=2)
def scalar_row(text: str) -> list[int]: ...  # type: ignore[empty-body]
@sp.endpoint(batch=2)
def scalar_result(texts: list[str]) -> int: ...  # type: ignore[empty-body]
@sp.endpoint(batch=2)
def row_default(texts: list[str], k: list[int] = [1]) -> list[int]: ...  # type: ignore[empty-body]  # noqa: B006
@sp.endpoint(batch=2)
def no_rows() -> list[int]: ...  # type: ignore[empty-body]
@sp.endpoint(batch=2)
def streaming_rows(texts: list[str]) -> Iterator[str]: ...  # type: ignore[empty-body]
def silent_default(text: str, thing: Any = Unknown()) -> str: ...  # type: ignore[empty-body]  # noqa: B008


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_annotation, r"NoAnnotation.no_annotation: argument 'text' needs an annotation; supported: str"),
        (no_result, r"NoResult.no_result: the result needs an annotation"),
        (unknown_type, r"UnknownType.unknown_type: argument 'thing': Unknown is not supported; supported: str"),
        (inner_unknown, r"argument 'things'.*Unknown.* is not supported"),
        (unknown_result, r"the result: Unknown is not supported"),
        (mixed_union, r"argument 'thing'.*is not supported \(Type unions"),
        (variadic, r"name every argument"),
        (bare_stream, r"such as Iterator\[str\]"),
        (unresolvable, r"NoSuchName"),
        (scalar_row, r"argument 'text' of a batched endpoint is a list.*list\[str\], not str"),
        (scalar_result, r"the result of a batched endpoint is a list"),
        (row_default, r"'k'.*cannot have a default"),
        (no_rows, r"needs an argument"),
        (streaming_rows, r"batched endpoint cannot stream"),
        (silent_default, r"default of argument 'thing' has no JSON form"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(InvalidConfiguration, match=message):
        describe(model_from_function(function))


@pytest.mark.parametrize("arguments", [{"batch": -1}, {"batch": True}, {"batch": 1.5}, {"name": "a/b"}, {"name": ""}])
def test_an_impossible_endpoint_is_refused_where_it_is_written(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfiguration, match="endpoint"):
        sp.endpoint(**arguments)(lambda: None)


def test_a_class_without_endpoints_and_one_with_two_of_a_name_are_refused() -> None:
    class Empty(sp.Model):
        pass

    class Twice(sp.Model):
        @sp.endpoint(name="x")
        def a(self) -> int: ...  # type: ignore[empty-body]

        @sp.endpoint(name="x")
        def b(self) -> int: ...  # type: ignore[empty-body]

    with pytest.raises(InvalidConfiguration, match="Empty has no endpoint"):
        describe(Empty)
    with pytest.raises(InvalidConfiguration, match="two endpoints named 'x'"):
        describe(Twice)


def test_endpoints_are_inherited_and_may_be_replaced_or_taken_back() -> None:
    class Base(sp.Model):
        @sp.endpoint
        def a(self) -> int: ...  # type: ignore[empty-body]

        @sp.endpoint
        def b(self) -> int: ...  # type: ignore[empty-body]

        @sp.endpoint
        @staticmethod
        def c(x: int) -> int: ...  # type: ignore[empty-body]

    class Derived(Base):
        @sp.endpoint(name="a2")
        def a(self) -> int: ...  # type: ignore[empty-body]

        def b(self) -> int: ...  # type: ignore[empty-body]

    assert [contract.name for contract in contracts(Derived)] == ["a2", "c"]
    assert [argument.name for argument in contracts(Derived)[1].arguments] == ["x"]


def test_a_function_is_named_after_itself_and_not_changed() -> None:
    def score_text(text: str) -> float:
        """Judge it."""
        return float(len(text))

    model = model_from_function(score_text)
    assert model.__name__ == "ScoreText"
    assert (describe(model)[0][0].name, describe(model)[0][0].summary) == ("score_text", "Judge it.")
    assert vars(score_text) == {}
    assert model().score_text("abc") == 3.0  # type: ignore[attr-defined]

    anonymous = lambda x: x  # noqa: E731
    anonymous.__annotations__ = {"x": int, "return": int}
    assert describe(model_from_function(anonymous))[0][0].name == "predict"

    @sp.endpoint(batch=8, name="other")
    def load(rows: list[int]) -> list[int]:
        return rows

    contract = contracts(model_from_function(load))[0]
    assert (contract.name, contract.batch_rows, contract.attribute) == ("other", 8, "predict")


@pytest.mark.parametrize("thing", [int, "text", len])
def test_only_functions_become_models(thing: Any) -> None:
    with pytest.raises(InvalidConfiguration, match="expected a function"):
        model_from_function(thing)
