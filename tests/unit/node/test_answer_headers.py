"""What an answer says of the model that gave it."""

import re

import pytest

from setpoint.core import StepTime
from setpoint.node.answer_headers import metadata_of, model_line, run_lines, step_lines
from setpoint.node.http import trace_context


def headers(lines: bytes) -> dict[str, str]:
    assert not lines or lines.endswith(b"\r\n")
    return dict(line.split(": ", 1) for line in lines.decode("ascii").splitlines())


def test_an_answer_names_its_variant_and_where_its_time_went() -> None:
    assert headers(run_lines("int8", 123_456, 7_000_000)) == {
        "server-timing": "queue;dur=0.123, run;dur=7.000",
        "setpoint-variant": "int8",
    }


def test_an_answer_that_begins_before_its_run_is_over_says_how_long_it_waited() -> None:
    assert headers(run_lines("fp32", 2_000_000, 0)) == {
        "server-timing": "queue;dur=2.000",
        "setpoint-variant": "fp32",
    }


def test_an_answer_that_nothing_ran_for_says_nothing() -> None:
    assert run_lines("", 0, 0) == b""


@pytest.mark.parametrize("variant", ["fp32 ∘ sparse", "ä"])
def test_a_variant_may_have_any_name(variant: str) -> None:
    assert headers(run_lines(variant, 1, 1))["setpoint-variant"].isascii()


def test_grpc_is_told_the_same() -> None:
    lines = model_line("model", "sha256:0") + run_lines("fp32 ∘ sparse", 123_456, 7_000_000)
    assert dict(metadata_of(lines)) == headers(lines)
    assert metadata_of(lines)[0] == ("setpoint-model", "model@sha256:0")
    assert all(value.isascii() for _, value in metadata_of(lines))  # gRPC sends nothing else, and no answer with it


def test_each_step_of_a_composition_is_told_and_is_a_span_where_there_is_a_trace() -> None:
    steps = (StepTime("find", 1, 250_000, 1_500_000), StepTime("read", 3, 0, 2_000_000))
    assert step_lines(steps, None) == (
        b'server-timing: find;dur=1.500;desc="1 rows, queue 0.250 ms", read;dur=2.000;desc="3 rows, queue 0.000 ms"\r\n'
    )
    trace = trace_context(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    assert trace is not None
    child = trace.child()
    assert (child.trace_id, child.parent_id, child.flags) == (trace.trace_id, trace.span_id, trace.flags)
    spans = re.findall(rb"span ([0-9a-f]{16})\"", step_lines(steps, trace))
    assert len({*spans, trace.span_id, trace.parent_id}) == 4
    assert step_lines((), trace) == b""
