"""Long work a slice at a time: in order, stopped when its client leaves, every error answered."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest

from setpoint.core import InternalError, InvalidRequest
from setpoint.node.http import Exchange
from setpoint.node.slices import Slices


class Connection:
    """Keeps what an exchange was answered."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = []

    def answer(self, exchange: Exchange, status: int, body: bytes, content_type: bytes, headers: Any) -> None:
        self.answers.append((status, body))


def exchange() -> tuple[Exchange, Connection]:
    connection = Connection()
    return Exchange(connection), connection  # type: ignore[arg-type]


def work(slices: int, result: str = "done", seen: list[str] | None = None) -> Generator[None, None, str]:
    for number in range(slices - 1):
        if seen is not None:
            seen.append(f"{result} {number}")
        yield
    return result


def failing(error: Exception, after: int) -> Generator[None, None, str]:
    for _ in range(after):
        yield
    raise error


def run(scene: Callable[[Slices], Awaitable[None]]) -> None:
    asyncio.run(scene(Slices(lambda bug: InternalError(f"logged {bug}"))))  # type: ignore[arg-type]


async def turns(number: int = 30) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def test_what_one_slice_can_do_is_done_at_once() -> None:
    async def scene(slices: Slices) -> None:
        results: list[str] = []
        slices.run(exchange()[0], work(1), results.append)
        assert results == ["done"]

    run(scene)


def test_long_work_is_done_one_after_the_other_and_others_have_turns_between() -> None:
    async def scene(slices: Slices) -> None:
        seen: list[str] = []
        for name in ("a", "b"):
            slices.run(exchange()[0], work(4, name, seen), seen.append)
        assert seen == ["a 0", "b 0"]
        for _ in range(3):
            await asyncio.sleep(0)
            seen.append("a turn of others")
        await turns()
        rest = [event for event in seen if event != "a turn of others"]
        assert rest == ["a 0", "b 0", "a 1", "a 2", "a", "b 1", "b 2", "b"]
        assert seen.index("a turn of others") < seen.index("a")

    run(scene)


def test_short_work_does_not_wait_for_long_work() -> None:
    async def scene(slices: Slices) -> None:
        results: list[str] = []
        slices.run(exchange()[0], work(10, "long"), results.append)
        slices.run(exchange()[0], work(1, "short"), results.append)
        assert results == ["short"]
        await turns()
        assert results == ["short", "long"]

    run(scene)


def test_work_for_a_client_that_left_is_stopped() -> None:
    async def scene(slices: Slices) -> None:
        results: list[str] = []
        seen: list[str] = []
        left, connection = exchange()
        slices.run(left, work(1000, "left", seen), results.append)
        slices.run(exchange()[0], work(3, "stayed"), results.append)
        await asyncio.sleep(0)
        left.disconnected()
        await turns()
        assert results == ["stayed"]
        assert len(seen) < 5
        assert connection.answers == []

    run(scene)


def test_a_refusal_in_a_later_slice_is_the_answer() -> None:
    async def scene(slices: Slices) -> None:
        asked, connection = exchange()
        slices.run(asked, failing(InvalidRequest("no"), after=2), pytest.fail)
        await turns()
        assert connection.answers == [(400, b'{"error":"no"}')]

    run(scene)


def test_a_refusal_in_the_first_slice_is_for_whoever_called() -> None:
    async def scene(slices: Slices) -> None:
        with pytest.raises(InvalidRequest):
            slices.run(exchange()[0], failing(InvalidRequest("no"), after=0), pytest.fail)

    run(scene)


@pytest.mark.parametrize("where", ["slice", "then"])
def test_a_bug_is_answered_and_those_behind_it_go_on(where: str) -> None:
    async def scene(slices: Slices) -> None:
        asked, connection = exchange()
        results: list[str] = []

        def then(_: str) -> None:
            raise ZeroDivisionError("oh")

        if where == "slice":
            slices.run(asked, failing(ZeroDivisionError("oh"), after=1), results.append)
        else:
            slices.run(asked, work(3), then)
        slices.run(exchange()[0], work(3, "behind"), results.append)
        await turns()
        assert connection.answers == [(500, b'{"error":"logged oh"}')]
        assert results == ["behind"]

    run(scene)
