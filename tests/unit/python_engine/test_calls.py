"""Calling a loaded class: answers in order, one request's fault is never another's, no traceback reaches a client."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from setpoint.core import InternalError, NotFound
from setpoint.engines.python import Answer, PythonExecutable

Load = Callable[..., PythonExecutable]

WORDS = """
    calls = []

    @sp.endpoint(batch=4)
    def lengths(self, texts: list[str]) -> list[int]:
        self.calls.append(list(texts))
        if "fail" in texts:
            raise ZeroDivisionError("secret place")
        if "refuse" in texts:
            raise sp.InvalidInput("no such word")
        if "short" in texts:
            return [1] * (len(texts) - 1)
        return [len(text) for text in texts]
"""


def body(**arguments: Any) -> bytes:
    return json.dumps(arguments).encode()


def call(executable: PythonExecutable, endpoint: str, **arguments: Any) -> Answer:
    return executable.call(endpoint, [body(**arguments)])[0]


def test_every_body_has_its_answer_in_order(load: Load) -> None:
    executable = load("""
        @sp.endpoint
        def shout(self, text: str, times: int = 1) -> str:
            return text.upper() * times
    """)
    answers = executable.call("shout", [body(text="a"), b"{}", body(text="b", times=2), b"nonsense"])
    assert [answer.ok for answer in answers] == [True, False, True, False]
    assert [answers[0].body, answers[2].body] == [b'"A"', b'"BB"']
    assert {answers[1].kind, answers[3].kind} == {"invalid_request"}
    assert executable.call("shout", []) == []


def test_rows_of_several_requests_run_together(load: Load) -> None:
    executable = load(WORDS)
    answers = executable.call("lengths", [body(texts=["a", "bb"]), body(texts=[]), body(texts=["ccc"])])
    assert [answer.body for answer in answers] == [b"[1,2]", b"[]", b"[3]"]
    assert executable._model.calls == [["a", "bb", "ccc"]]  # type: ignore[union-attr]


def test_never_more_rows_at_once_than_the_batch_allows(load: Load) -> None:
    executable = load(WORDS)
    answers = executable.call("lengths", [body(texts=["a"] * 9), body(texts=["bb"] * 2)])
    assert [json.loads(answer.body) for answer in answers] == [[1] * 9, [2] * 2]
    assert [len(rows) for rows in executable._model.calls] == [4, 4, 3]  # type: ignore[union-attr]


def test_only_the_culprit_fails(load: Load) -> None:
    bodies = [
        body(texts=["a"]),
        body(texts=["fail"]),
        body(texts=["bb", "cc"]),
        body(texts=["refuse"]),
        body(texts=[1]),
        body(texts=["short"]),
    ]
    answers = load(WORDS).call("lengths", bodies)
    assert answers == [
        Answer(True, b"[1]"),
        Answer(False, kind="model_error", message="M.lengths failed: ZeroDivisionError: secret place"),
        Answer(True, b"[2,2]"),
        Answer(False, kind="invalid_request", message="no such word"),
        Answer(False, kind="invalid_request", message="texts[0]: expected str, got int"),
        Answer(False, kind="model_error", message="M.lengths: expected 1 results, one per row, got 0"),
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.lists(st.lists(st.sampled_from(["a", "bb", "fail", "refuse"]), max_size=6), max_size=6))
def test_a_request_is_answered_as_if_it_were_alone(load: Load, requests: list[list[str]]) -> None:
    if not hasattr(load, "words"):
        load.words = load(WORDS)  # type: ignore[attr-defined]
    executable: PythonExecutable = load.words  # type: ignore[attr-defined]
    bodies = [body(texts=texts) for texts in requests]
    assert executable.call("lengths", bodies) == [executable.call("lengths", [one])[0] for one in bodies]


def test_an_answer_that_cannot_be_written_fails_alone_and_is_not_computed_again(load: Load) -> None:
    executable = load("""
        calls = []

        @sp.endpoint(batch=4)
        def things(self, ids: list[int]) -> list[Any]:
            self.calls.append(ids)
            return [object() if i == 0 else i for i in ids]
    """)
    answers = executable.call("things", [body(ids=[1]), body(ids=[0]), body(ids=[2])])
    assert [answer.ok for answer in answers] == [True, False, True]
    assert answers[1].message == "M.things failed: TypeError: a value of type object has no JSON form"
    assert executable._model.calls == [[1, 0, 2]]  # type: ignore[union-attr]


def test_the_traceback_goes_to_the_log_and_not_to_the_client(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    answer = call(load(WORDS), "lengths", texts=["fail"])
    assert "Traceback" not in answer.message
    assert "line" not in answer.message
    assert "Traceback" in caplog.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("failure", ["sys.exit(3)", "raise asyncio.CancelledError", "raise MemoryError", "f()"])
def test_no_failure_of_a_model_ends_the_worker(load: Load, failure: str) -> None:
    executable = load(
        f"""
        @sp.endpoint
        def run(self) -> int:
            import sys
            def f(): return f()
            {failure}
    """
    )
    answer = call(executable, "run")
    assert (answer.ok, answer.kind) == (False, "model_error")


def test_long_error_messages_are_cut(load: Load) -> None:
    executable = load("""
        @sp.endpoint
        def run(self) -> int:
            raise ValueError("x" * 100_000)
    """)
    assert len(call(executable, "run").message) < 500


def test_async_endpoints_share_one_loop(load: Load) -> None:
    executable = load("""
        async def load(self, ctx):
            self.lock = asyncio.Lock()
            self.loops = {asyncio.get_running_loop()}

        @sp.endpoint
        async def double(self, x: float) -> float:
            self.loops.add(asyncio.get_running_loop())
            async with self.lock:
                await asyncio.sleep(0)
            return x * 2

        @sp.endpoint(batch=2)
        async def rows(self, xs: list[int]) -> list[int]:
            return [x + 1 for x in xs]
    """)
    assert [call(executable, "double", x=x).body for x in (1, 2.5)] == [b"2.0", b"5.0"]
    assert call(executable, "rows", xs=[1, 2, 3]).body == b"[2,3,4]"
    assert len(executable._model.loops) == 1  # type: ignore[union-attr]


def test_keyword_only_arguments_are_passed_by_name(load: Load) -> None:
    executable = load("""
        @sp.endpoint
        def join(self, a: str, *, b: str, c: str = "C") -> str:
            return a + b + c
    """)
    assert call(executable, "join", b="2", a="1").body == b'"12C"'


def test_structured_answers_are_written_with_arrays_and_nan(load: Load) -> None:
    executable = load(
        """
        @sp.endpoint
        def run(self) -> Result:
            return Result(np.array([1.5, np.nan, np.inf], np.float32), {"x": np.int64(3)}, b"abc")
    """,
        before="""
        class Result(msgspec.Struct, rename="camel"):
            the_vector: sp.Tensor["float32", 3]
            counts: dict[str, int]
            data: bytes
    """,
    )
    assert json.loads(call(executable, "run").body) == {
        "theVector": [1.5, None, None],
        "counts": {"x": 3},
        "data": "YWJj",
    }


def test_calling_what_is_not_there_is_a_mistake_of_the_caller(load: Load) -> None:
    executable = load("""
        @sp.endpoint
        def one(self) -> int:
            return 1

        @sp.endpoint
        def many(self) -> Iterator[int]:
            yield 1
    """)
    with pytest.raises(NotFound, match="no endpoint 'other'; there is one, many"):
        executable.call("other", [])
    with pytest.raises(InternalError):
        executable.call("many", [b""])
    with pytest.raises(InternalError):
        executable.stream("one", b"")
