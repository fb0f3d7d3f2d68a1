"""How a person names a bundle."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.core import InvalidConfiguration
from setpoint.registry import Reference, check_name
from setpoint.registry.reference import name_from

names = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?", fullmatch=True).filter(lambda name: name != "stats")
aliases = st.from_regex(r"[a-z]([a-z0-9._-]{0,20}[a-z0-9])?", fullmatch=True)
references = st.one_of(
    st.builds(Reference, names),
    st.builds(Reference, names, version=st.integers(1, 999_999_999)),
    st.builds(Reference, names, alias=aliases),
    st.builds(Reference, names, digest=st.from_regex(r"[0-9a-f]{6,64}", fullmatch=True)),
)


@given(references)
def test_a_reference_is_read_as_it_is_printed(reference: Reference) -> None:
    assert Reference.parse(str(reference)) == reference


@given(st.text(max_size=60))
def test_no_text_breaks_the_parser(text: str) -> None:
    with contextlib.suppress(InvalidConfiguration):
        assert str(Reference.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "model name"),
        ("Iris", "model name"),
        ("-iris", "model name"),
        ("iris.", "model name"),
        ("a/b", "model name"),
        ("stats", "server's own routes"),
        ("stats:3", "server's own routes"),
        ("a" * 129, "129 characters"),
        ("iris:", "alias"),
        ("iris:0", "alias"),
        ("iris:3a", "alias"),
        ("iris:Champion", "alias"),
        ("iris:1:2", "alias"),
        ("iris@", "sha256"),
        ("iris@sha256:", "sha256"),
        ("iris@sha256:abc", "6 to 64"),
        ("iris@md5:abcdef0", "sha256"),
        ("iris@sha256:ABCDEF0", "hex digits"),
    ],
)
def test_what_is_no_reference_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(InvalidConfiguration, match=complaint):
        Reference.parse(text)


def test_the_longest_name() -> None:
    assert check_name("a" * 128) == "a" * 128


@given(st.text(max_size=300))
def test_any_text_becomes_a_valid_name(text: str) -> None:
    assert check_name(name_from(text))


def test_a_file_name_stays_recognisable() -> None:
    assert name_from("My Model (v2)") == "my-model-v2"
    assert name_from("stats") == "stats-model"
    assert name_from("日本") == "model"
    assert not re.search(r"[^a-z0-9._-]", name_from("Größe.v1"))
