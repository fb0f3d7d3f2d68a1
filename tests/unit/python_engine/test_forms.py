"""Fields of a form become what the annotations say: files as they are, words as they are, all else as JSON."""

import enum
from typing import Annotated, Literal

import msgspec
import pytest

import setpoint as sp
from setpoint.authoring import contracts
from setpoint.core import InvalidRequest, pack_form
from setpoint.engines.python_request import RequestReader

PNG = b"\x89PNG\r\n\x1a\nrest"


class Colour(enum.Enum):
    RED = "red"


class Box(msgspec.Struct):
    left: int
    right: int = 9


class Looking(sp.Model):
    @sp.endpoint
    def look(
        self,
        image: sp.Image,
        more: list[bytes],
        word: str = "none",
        colour: Colour = Colour.RED,
        mode: Literal["fast", "slow"] = "fast",
        limit: Annotated[int, msgspec.Meta(ge=0)] | None = None,
        box: Box | None = None,
        *,
        tags: list[str] = [],  # noqa: B006  # a default as users write it
    ) -> str:
        return ""


class Batched(sp.Model):
    @sp.endpoint(batch=8)
    def rows(self, images: list[sp.Image], words: list[str], numbers: list[float]) -> list[str]:
        return words


class Bounded(sp.Model):
    @sp.endpoint
    def bounded(
        self,
        files: Annotated[list[Annotated[bytes, msgspec.Meta(min_length=1)]], msgspec.Meta(max_length=2)] | None = None,
        file: Annotated[bytes, msgspec.Meta(max_length=3)] = b"",
        words: Annotated[list[str], msgspec.Meta(max_length=1)] = [],  # noqa: B006  # a default as users write it
    ) -> str:
        return ""


READER = RequestReader(contracts(Looking)[0])
ROWS = RequestReader(contracts(Batched)[0])


def test_every_kind_of_argument_is_read() -> None:
    fields = {
        "image": [PNG], "more": [b"1", b"\xff"], "word": ["“Bern”".encode()], "colour": [b"red"], "mode": [b"slow"],
        "limit": [b"3"], "box": [b'{"left": 4}'], "tags": [b"a", b"[1]"],
    }  # fmt: skip
    image, *rest = READER.arguments(pack_form(fields))
    assert image.data == PNG
    assert rest == [[b"1", b"\xff"], "“Bern”", Colour.RED, "slow", 3, Box(4), ["a", "[1]"]]


def test_what_has_a_default_may_be_missing() -> None:
    assert READER.arguments(pack_form({"image": [PNG], "more": [b""]}))[2:] == (
        *("none", Colour.RED, "fast", None, None, []),
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"image": [PNG]}, "missing field 'more' in the form; expected image, more, word"),
        ({"image": [PNG, PNG], "more": [b""]}, "field 'image' comes 2 times in the form; it is one value"),
        ({"image": [b"GIF89a"], "more": [b""]}, "field 'image' of the form: expected a JPEG, PNG or WebP"),
        ({"image": [PNG], "more": [b""], "word": [b"\xff"]}, "field 'word' of the form: expected UTF-8, got byte 0xff"),
        ({"image": [PNG], "more": [b""], "colour": [b"blue"]}, "field 'colour' of the form: Invalid enum value 'blue'"),
        ({"image": [PNG], "more": [b""], "limit": [b"-1"]}, "field 'limit' of the form: Expected `int` >= 0"),
        ({"image": [PNG], "more": [b""], "limit": [b"x"]}, "field 'limit' of the form: "),
        ({"image": [PNG], "more": [b""], "box": [b"[" * 5000]}, "field 'box' of the form: "),
    ],
)
def test_what_does_not_fit_is_the_clients_mistake(fields: dict[str, list[bytes]], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        READER.arguments(pack_form(fields))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"files": [b"1", b"2", b"3"]}, "field 'files' of the form: Expected `array` of length <= 2"),
        ({"files": [b"1", b""]}, "field 'files' of the form: Expected `bytes` of length >= 1"),
        ({"file": [b"four"]}, "field 'file' of the form: Expected `bytes` of length <= 3"),
        ({"words": [b"a", b"b"]}, "field 'words' of the form: Expected `array` of length <= 1"),
    ],
)
def test_bounds_hold_in_a_form_as_they_do_in_json(fields: dict[str, list[bytes]], said: str) -> None:
    reader = RequestReader(contracts(Bounded)[0])
    within = {"files": [b"1", b"\xff"], "file": [b"abc"], "words": [b"a"]}
    assert reader.arguments(pack_form(within)) == ([b"1", b"\xff"], b"abc", ["a"])
    with pytest.raises(InvalidRequest) as caught:
        reader.arguments(pack_form(fields))
    assert caught.value.message.startswith(said)


@pytest.mark.parametrize("body", [b"\0", b"\0\0", b"\0{}", b"\0\x81\xa1\xff\x90", b"\0" + b"\x91" * 5000])
def test_what_only_begins_as_a_form_does_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        READER.arguments(body)


def test_a_batched_endpoint_takes_one_part_for_each_row() -> None:
    fields = {"images": [PNG, PNG], "words": [b"a", b"b"], "numbers": [b"1", b"2.5"]}
    images, words, numbers = ROWS.arguments(pack_form(fields))
    assert (len(images), words, numbers) == (2, ["a", "b"], [1.0, 2.5])
