"""Streaming: validated before the first event, one JSON document each, and always closed."""

from collections.abc import Callable

import pytest

from setpoint.core import InvalidRequest, ModelError
from setpoint.engines.python import PythonExecutable

Load = Callable[..., PythonExecutable]

STREAMS = """
    closed = 0

    @sp.endpoint
    def words(self, text: str) -> Iterator[str]:
        try:
            for word in text.split():
                if word == "fail":
                    raise ValueError("broken")
                if word == "refuse":
                    raise sp.InvalidInput("not that word")
                yield word
        finally:
            self.closed += 1

    @sp.endpoint
    async def letters(self, text: str) -> AsyncIterator[dict[str, str]]:
        try:
            for letter in text:
                await asyncio.sleep(0)
                yield {"letter": letter}
        finally:
            await asyncio.sleep(0)
            self.closed += 1

    @sp.endpoint
    def listed(self, n: int) -> Iterator[int]:
        return iter(range(n))

    @sp.endpoint
    def broken(self) -> Iterator[int]:
        raise KeyError("before the first")

    @sp.endpoint
    def parts(self, data: bytes) -> Iterator[int]:
        yield from data
"""


def test_each_item_is_one_event(load: Load) -> None:
    executable = load(STREAMS)
    assert list(executable.stream("words", b'{"text":"a b\\n c"}')) == [b'"a"', b'"b"', b'"c"']
    assert list(executable.stream("letters", b'{"text":"xy"}')) == [b'{"letter":"x"}', b'{"letter":"y"}']
    assert list(executable.stream("listed", b'{"n":3}')) == [b"0", b"1", b"2"]
    assert list(executable.stream("parts", b"\x01\x02", raw=True)) == [b"1", b"2"]
    assert list(executable.stream("listed", b'{"n":0}')) == []
    assert executable._model.closed == 2  # type: ignore[union-attr]


def test_events_hold_no_line_break_for_they_are_lines(load: Load) -> None:
    (event,) = load(STREAMS).stream("letters", b'{"text":"\\n"}')
    assert b"\n" not in event


def test_a_request_that_does_not_fit_is_refused_before_anything_runs(load: Load) -> None:
    executable = load(STREAMS)
    for endpoint, body in (("words", b'{"text":1}'), ("letters", b"{}"), ("listed", b"[")):
        with pytest.raises(InvalidRequest):
            executable.stream(endpoint, body)
    assert executable._model.closed == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("endpoint", ["words", "letters"])
def test_a_consumer_that_leaves_closes_the_models_generator(load: Load, endpoint: str) -> None:
    executable = load(STREAMS)
    events = executable.stream(endpoint, b'{"text":"a b c"}')
    next(events)
    events.close()
    assert executable._model.closed == 1  # type: ignore[union-attr]
    assert list(events) == []


def test_a_stream_that_nobody_started_runs_nothing(load: Load) -> None:
    executable = load(STREAMS)
    executable.stream("words", b'{"text":"a"}').close()
    assert executable._model.closed == 0  # type: ignore[union-attr]


def test_a_failure_midway_is_told_after_what_came_before(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    executable = load(STREAMS)
    events = executable.stream("words", b'{"text":"a fail b"}')
    assert next(events) == b'"a"'
    with pytest.raises(ModelError, match=r"M.words failed: ValueError: broken"):
        next(events)
    assert list(events) == []
    assert executable._model.closed == 1  # type: ignore[union-attr]
    assert "ValueError" in caplog.text
    events = executable.stream("words", b'{"text":"refuse"}')
    with pytest.raises(InvalidRequest, match="not that word"):
        next(events)
    with pytest.raises(ModelError, match="KeyError"):
        next(executable.stream("broken", b""))


def test_a_generator_that_fails_to_close_is_only_logged(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    executable = load("""
        @sp.endpoint
        def run(self) -> Iterator[int]:
            try:
                yield 1
                yield 2
            finally:
                raise OSError("on closing")
    """)
    events = executable.stream("run", b"")
    next(events)
    events.close()
    assert "on closing" in caplog.text
