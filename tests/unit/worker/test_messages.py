"""Messages between node and worker: whole in both directions, and never larger than a packet."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.core import InvalidRequest, error_of
from setpoint.worker import messages

numbers = st.integers(0, 2**63 - 1)
texts = st.text(max_size=40)
extents = st.builds(messages.Extent, numbers, numbers)
tensors = st.builds(
    messages.TensorExtent,
    st.sampled_from(["FP32", "BYTES"]),
    st.lists(st.integers(0, 2**40), max_size=5).map(tuple),
    numbers,
    numbers,
)
commands = st.one_of(
    st.builds(messages.RunTensors, numbers, numbers, st.lists(tensors, max_size=4), st.booleans(), numbers),
    st.builds(messages.CallEndpoint, numbers, numbers, texts, st.booleans(), st.lists(extents, max_size=4)),
    st.builds(messages.StreamEndpoint, numbers, numbers, texts, st.booleans(), extents),
    st.builds(messages.Cancel, numbers),
    st.builds(messages.Load, numbers, texts, extents, st.lists(texts, max_size=3), numbers, st.booleans(), numbers),
)
reports = st.one_of(
    st.builds(messages.Ready, st.floats(0, 1e9), st.floats(0, 1e9)),
    st.builds(messages.Broken, texts, texts),
    st.builds(messages.Ran, numbers, numbers, numbers, st.lists(tensors, max_size=4), texts, texts),
    st.builds(
        messages.Answered,
        numbers,
        numbers,
        numbers,
        st.lists(st.builds(messages.CallAnswer, extents, texts), max_size=4),
        texts,
        texts,
    ),
    st.builds(messages.StreamChunk, numbers, st.binary(max_size=99), st.booleans()),
    st.builds(messages.StreamEnd, numbers, numbers, texts, texts),
)


@given(commands)
def test_commands_arrive_as_they_were_sent(command: messages.Command):
    assert messages.decode_command(messages.encode(command)) == command


@given(reports)
def test_reports_arrive_as_they_were_sent(report: messages.Report):
    assert messages.decode_report(messages.encode(report)) == report


@given(st.binary(max_size=200))
def test_what_is_no_message_is_an_error_that_the_reader_expects(packet: bytes):
    for decode in (messages.decode_command, messages.decode_report):
        try:
            decode(packet)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue


def test_the_largest_batch_fits_one_packet_in_both_directions():
    extent = messages.Extent(2**40, 2**40)
    call = messages.CallEndpoint(2**62, 2**40, "e" * 200, False, [extent] * messages.CALL_LIMIT_REQUESTS)
    failed = messages.CallAnswer(extent, InvalidRequest.kind)
    answered = messages.Answered(2**62, 2**40, 2**62, [failed] * messages.CALL_LIMIT_REQUESTS, "x" * 40, long_message())
    chunk = messages.StreamChunk(2**62, bytes(messages.CHUNK_LIMIT_BYTES), True)
    ended = messages.StreamEnd(2**62, 2**62, "x" * 40, long_message())
    for message in (call, answered, chunk, ended):
        assert len(messages.encode(message)) <= messages.PACKET_LIMIT_BYTES


def long_message() -> str:
    return messages.said("日" * 1_000_000)


@pytest.mark.parametrize("text", ["", "short", "é" * messages.SAID_LIMIT_CHARACTERS])
def test_an_ordinary_message_is_said_as_it_is(text):
    assert messages.said(text) == text


@given(st.text(alphabet=st.characters(), max_size=50))
def test_whatever_a_model_says_can_be_sent(text: str):
    said = messages.said(text + chr(0xDC80))
    assert "\\udc80" in said
    assert messages.decode_report(messages.encode(messages.Broken("x", said))).message == said


def test_a_message_beyond_the_limit_is_cut_and_shows_it():
    said = messages.said("x" * (messages.SAID_LIMIT_CHARACTERS + 1))
    assert len(said) == messages.SAID_LIMIT_CHARACTERS
    assert said.endswith("…")


def test_an_unknown_kind_of_error_is_a_bug_and_a_known_one_its_class():
    assert type(error_of("invalid_request", "m")) is InvalidRequest
    assert error_of("no such kind", "m").kind == "internal"
