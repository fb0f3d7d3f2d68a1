"""What an answer says of the model that gave it."""

import pytest

from setpoint.node.answer_headers import AnswerHeaders

DIGEST = "sha256:" + "0a" * 32


def headers(lines: bytes) -> dict[str, str]:
    assert lines.endswith(b"\r\n")
    return dict(line.split(": ", 1) for line in lines.decode("ascii").splitlines())


def test_an_answer_names_model_and_variant_and_where_its_time_went() -> None:
    answer = AnswerHeaders("iris", DIGEST)
    assert headers(answer.of_run("int8", 123_456, 7_000_000)) == {
        "server-timing": "queue;dur=0.123, run;dur=7.000",
        "setpoint-variant": "int8",
        "setpoint-model": f"iris@{DIGEST}",
    }
    assert headers(answer.of_run("fp32", 0, 1))["setpoint-variant"] == "fp32"


def test_an_answer_without_a_run_names_the_model() -> None:
    assert headers(AnswerHeaders("iris", DIGEST).model) == {"setpoint-model": f"iris@{DIGEST}"}


@pytest.mark.parametrize("variant", ["fp32 ∘ sparse", "ä"])
def test_a_variant_may_have_any_name(variant: str) -> None:
    lines = AnswerHeaders("iris", DIGEST).of_run(variant, 1, 1)
    assert headers(lines)["setpoint-variant"].isascii()
