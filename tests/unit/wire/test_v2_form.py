"""A body of a known form says what reading it in full says, or what is wrong with it."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from setpoint.core import FREE, InvalidRequest, Signature, TensorSpec
from setpoint.wire import V2Codec

SIGNATURE = Signature((TensorSpec("x", "FP32", (FREE, 2)),), (TensorSpec("y", "FP32", (FREE,)),), True)
DATA = (
    b"[1,2]",
    b"[1.5, -2e3]",
    b" [1,2] ",
    b"[1,2,3,4]",
    b"[[1,2]]",
    b"[1]",
    b"[1,null]",
    b"[1,true]",
    b'[1,"2"]',
    b"[1,2]]",
    b"[1,2",
    b'[1,2],"data":[3,4]',
    b'[1,2]}],"id":"a","inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[3,4]',
    b"[1e39,2]",
    b"[1,1e400]",
    b"[\xff,2]",
    b"",
    b"1,2",
)
FORMS = (
    (b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":', b"}]}"),
    (b'{"inputs":[{"data":', b',"name":"x","shape":[1,2],"datatype":"FP32"}]}'),
    (b'{"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":', b"}]}"),
    (b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","data":', b"}]}"),
    (b'{"id":"7","inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":', b"}]}"),
    (b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":', b'}],"parameters":{"timeout":5}}'),
    (b'{"note":[1,2],"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":', b"}]}"),
    (b'{"note":', b',"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'),
)
BODIES = st.tuples(st.sampled_from(FORMS), st.sampled_from(DATA)).map(lambda each: each[0][0] + each[1] + each[0][1])


def read(codec: V2Codec, body: bytes) -> str:
    try:
        said = codec.decode(body)
    except InvalidRequest as error:
        return error.message
    return repr(([array.tolist() for array in said.arrays], said.arrays[0].dtype, said))  # nan is not nan


@given(st.lists(BODIES, min_size=1, max_size=12))
@example([b"%b%b%b" % (FORMS[0][0], data, FORMS[0][1]) for data in DATA])
@example([FORMS[0][0] + b"[1,2]" + FORMS[0][1], FORMS[0][0] + FORMS[0][1], FORMS[0][0][:-1] + FORMS[0][1]])
def test_says_what_reading_in_full_says(bodies: list[bytes]) -> None:
    codec = V2Codec(SIGNATURE, "m", "1")
    for body in bodies:
        assert read(codec, body) == read(V2Codec(SIGNATURE, "m", "1"), body)


def test_a_known_form_is_not_read_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = V2Codec(SIGNATURE, "m", "1")
    before, after = FORMS[0]
    codec.decode(before + b"[0.5,2]" + after)
    monkeypatch.setattr("setpoint.wire.v2_json.decode_body", None)
    assert codec.decode(before + b"[3,4]" + after).arrays[0].tolist() == [[3.0, 4.0]]


def test_whoever_always_says_something_else_does_not_keep_others_from_being_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codec = V2Codec(SIGNATURE, "m", "1")
    for number in range(500):
        codec.decode(json.dumps({"note": number, **json.loads(FORMS[0][0] + b"[0.5,2]" + FORMS[0][1])}).encode())
    for _ in range(64):
        codec.decode(FORMS[0][0] + b"[0.5,2]" + FORMS[0][1])
    monkeypatch.setattr("setpoint.wire.v2_json.decode_body", None)
    codec.decode(FORMS[0][0] + b"[3,4]" + FORMS[0][1])
