"""The shared store against a real Redis: what is written is found, and one that is away costs nothing but misses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis_server import RedisServer

from setpoint.core import InvalidConfiguration, SystemClock
from setpoint.node.cache import CacheTerms
from setpoint.node.cache.redis_store import LARGEST_PARCEL_BYTES, RedisStore
from setpoint.observe import CacheCounts

KEYS = [bytes([number]) * 32 for number in range(200)]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.stop()


class Bench:
    """A store, and questions to it that can be waited for."""

    def __init__(self, url: str, timeout_s: float, ttl_s: float) -> None:
        self.counts = CacheCounts()
        self.bugs: list[BaseException] = []
        self.store = RedisStore(url, ttl_s, timeout_s, self.counts, SystemClock.now_ns, self.bugs.append)

    async def ask(self, *keys: bytes) -> list[bytes | None]:
        """All in one turn; those that are not asked are None too."""
        answers: list[asyncio.Future[bytes | None]] = []
        for key in keys:
            answer = asyncio.get_running_loop().create_future()
            if not self.store.look(key, answer.set_result):
                answer.set_result(None)
            answers.append(answer)
        return list(await asyncio.gather(*answers))

    async def written(self) -> None:
        while self.store._writing:
            await asyncio.sleep(0.005)


def run(url: str, test: Callable[[Bench], Awaitable[Any]], timeout_s: float = 5.0, ttl_s: float = 60.0) -> Bench:
    """Run a test with a store; nothing may be left of it, and no bug."""

    async def whole() -> Bench:
        bench = Bench(url, timeout_s, ttl_s)
        bench.store.begin()
        try:
            await test(bench)
        finally:
            await bench.store.close()
        assert bench.store._tasks == set()
        assert bench.bugs == []
        return bench

    return asyncio.run(whole())


def test_what_is_written_is_found(redis: RedisServer) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.ask(KEYS[0]) == [None]
        for key in KEYS[:3]:
            bench.store.keep(key, b"parcel of " + key)
        await bench.written()
        found = await bench.ask(*KEYS[:4])
        assert found == [b"parcel of " + key for key in KEYS[:3]] + [None]

    counts = run(redis.url, test).counts
    assert (counts.failures, counts.skipped) == (0, 0)


def test_redis_forgets_what_is_too_old(redis: RedisServer) -> None:
    async def test(bench: Bench) -> None:
        bench.store.keep(KEYS[0], b"x")
        await bench.written()
        (key,) = redis.keys()
        remaining_ms = int(redis.command("PTTL", key)[1:])
        assert 0 < remaining_ms <= 7000

    run(redis.url, test, ttl_s=7.0)


def test_more_questions_than_may_be_under_way_are_not_asked_and_all_others_are_answered(redis: RedisServer) -> None:
    async def test(bench: Bench) -> None:
        bench.store.keep(KEYS[0], b"x")
        await bench.written()
        assert (await bench.ask(*KEYS))[0] == b"x"
        assert bench.counts.skipped == len(KEYS) - 64

    run(redis.url, test)


def test_answers_that_are_too_large_or_too_many_are_not_written(redis: RedisServer) -> None:
    async def test(bench: Bench) -> None:
        bench.store.keep(KEYS[0], b"x" * (LARGEST_PARCEL_BYTES + 1))
        for key in KEYS:
            bench.store.keep(key, b"x")
        assert (bench.counts.oversize, bench.counts.skipped) == (1, len(KEYS) - 64)
        await bench.written()
        assert len(redis.keys()) == 64

    run(redis.url, test)


def test_a_redis_that_answers_nothing_is_given_up_and_found_again(redis: RedisServer) -> None:
    async def test(bench: Bench) -> None:
        bench.store.keep(KEYS[0], b"x")
        await bench.written()
        assert await bench.ask(KEYS[0]) == [b"x"]
        redis.freeze()
        for _ in range(3):
            assert await bench.ask(KEYS[0]) == [None]
        assert bench.counts.failures == 3
        assert not bench.store.look(KEYS[0], pytest.fail), "it is still asked"
        assert bench.counts.skipped == 1
        redis.thaw()
        while bench.store._breaker.open:
            bench.store.sweep(SystemClock.now_ns())
            await asyncio.sleep(0.02)
        assert await bench.ask(KEYS[0]) == [b"x"]

    run(redis.url, test, timeout_s=0.2)


def test_a_redis_that_is_not_there_and_comes_back_empty(redis: RedisServer) -> None:
    async def test(bench: Bench) -> None:
        bench.store.keep(KEYS[0], b"x")
        await bench.written()
        redis.stop()
        while not bench.store._breaker.open:
            await bench.ask(KEYS[0])
        bench.store.keep(KEYS[1], b"y")
        redis.start()
        while bench.store._breaker.open:
            bench.store.sweep(SystemClock.now_ns())
            await asyncio.sleep(0.02)
        assert await bench.ask(*KEYS[:2]) == [None, None]
        bench.store.keep(KEYS[1], b"y")
        await bench.written()
        assert await bench.ask(*KEYS[:2]) == [None, b"y"]

    run(redis.url, test)


def test_a_redis_that_was_never_there_costs_three_failures() -> None:
    pytest.importorskip("redis")

    async def test(bench: Bench) -> None:
        while not bench.store._breaker.open:
            await bench.ask(KEYS[0])
        assert await bench.ask(*KEYS[:10]) == [None] * 10
        assert bench.counts.failures == 3
        assert bench.counts.skipped >= 10

    run("redis://127.0.0.1:1/0", test)


def test_keys_of_another_kind_are_no_answers(redis: RedisServer) -> None:
    async def test(bench: Bench) -> None:
        redis.command("LPUSH", b"setpoint:" + KEYS[0], "x")
        assert await bench.ask(KEYS[0]) == [None]

    assert run(redis.url, test).counts.failures == 0


def test_a_password_that_is_asked_for_is_a_failure_and_not_an_error(redis: RedisServer) -> None:
    redis.command("CONFIG", "SET", "requirepass", "secret")

    async def test(bench: Bench) -> None:
        assert await bench.ask(KEYS[0]) == [None]

    assert run(redis.url, test).counts.failures >= 1
    with_password = redis.url.replace("//", "//:secret@")
    assert run(with_password, test).counts.failures == 0


@pytest.mark.parametrize("url", ["redis://localhost:port", "redis://[::1"])
def test_a_url_that_cannot_be_read_is_told_before_anything_starts(url: str) -> None:
    pytest.importorskip("redis")
    with pytest.raises(InvalidConfiguration, match="--cache-url"):
        Bench(CacheTerms(url=url).url, 1.0, 1.0)
