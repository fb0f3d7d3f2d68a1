"""A response cache's shared store in Redis: what is asked for in one turn of the event loop goes out as one command.

A store that is slow, full, broken or away costs misses and nothing else: every wait has a limit, and so has what may be
under way; a few failures in a row and it is not asked again until it has answered a question of ours (``Breaker``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from setpoint.core import InvalidConfiguration, MissingExtra
from setpoint.node.cache.breaker import Breaker
from setpoint.observe import CacheCounts

if TYPE_CHECKING:
    from redis.asyncio import Redis

_log = logging.getLogger("setpoint.node")
LARGEST_PARCEL_BYTES = 4 << 20
_PREFIX = b"setpoint:"
_LOOKS = 4
"""Reading commands under way at once, each on its own connection."""
_KEYS = 64
"""Keys in one of them."""
_KEPT = 64
_KEPT_BYTES = 16 << 20
"""Answers that may wait to be written; more are not written."""
_WRITE_TIMEOUT_S = 1.0
"""Nobody waits for a write, but it must end."""

Then = Callable[[bytes | None], None]


class RedisStore:
    """Parcels by key, in one Redis."""

    largest_bytes = LARGEST_PARCEL_BYTES

    def __init__(
        self,
        url: str,
        ttl_s: float,
        timeout_s: float,
        counts: CacheCounts,
        now_ns: Callable[[], int],
        on_bug: Callable[[BaseException], object],
    ) -> None:
        """Nothing is connected yet.

        Args:
            url: ``redis://``, ``rediss://`` or ``unix://``.
            ttl_s: how long Redis keeps an answer.
            timeout_s: how long a look may take.
            counts: where failures are counted.
            now_ns: the time.
            on_bug: logs a bug of ours.

        Raises:
            MissingExtra: the client is not installed.
            InvalidConfiguration: the URL cannot be read.
        """
        try:
            from redis.asyncio import Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
            from redis.exceptions import RedisError
        except ModuleNotFoundError as error:
            raise MissingExtra("redis", "redis", "a response cache that nodes share (--cache-url)") from error
        self._errors = (RedisError, OSError, asyncio.TimeoutError)
        try:
            self._client: Redis = Redis.from_url(
                url,
                socket_timeout=_WRITE_TIMEOUT_S,
                socket_connect_timeout=_WRITE_TIMEOUT_S,
                max_connections=_LOOKS + 2,  # and one that writes, and one that probes
                retry=Retry(NoBackoff(), 0),
            )
        except (ValueError, RedisError) as error:
            raise InvalidConfiguration(f"--cache-url cannot be read: {error}") from error
        self._ttl_ms = max(1, int(ttl_s * 1000))
        self._timeout_s = timeout_s
        self._counts = counts
        self._now_ns = now_ns
        self._on_bug = on_bug
        self._breaker = Breaker()
        self._wanted: list[tuple[bytes, Then]] = []
        self._looks = 0
        self._kept: list[tuple[bytes, bytes]] = []
        self._kept_bytes = 0
        self._writing = False
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Connect in the background, so that no request pays for it."""
        self._spawn(self._probe())

    def look(self, key: bytes, then: Then) -> bool:
        """Ask for a parcel; ``then`` is called with it, or with None, within the time limit.

        Returns:
            False where it is not asked: ``then`` is not called.
        """
        full = len(self._wanted) >= _KEYS or (self._looks >= _LOOKS and not self._wanted)
        if self._breaker.open or full:
            self._counts.skipped += 1
            return False
        self._wanted.append((key, then))
        if len(self._wanted) == 1:
            self._looks += 1
            asyncio.get_running_loop().call_soon(self._flush)
        return True

    def keep(self, key: bytes, parcel: bytes) -> None:
        """Write a parcel, some time."""
        if len(parcel) > self.largest_bytes:
            self._counts.oversize += 1
            return
        if self._breaker.open or len(self._kept) >= _KEPT or self._kept_bytes + len(parcel) > _KEPT_BYTES:
            self._counts.skipped += 1
            return
        self._kept.append((key, parcel))
        self._kept_bytes += len(parcel)
        if not self._writing:
            self._writing = True
            self._spawn(self._write())

    def sweep(self, now_ns: int) -> None:
        """Called some times a second: ask a dead store whether it is back."""
        if self._breaker.probe_due(now_ns):
            self._spawn(self._probe())

    async def close(self) -> None:
        """Let go of every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _flush(self) -> None:
        wanted, self._wanted = self._wanted, []
        self._spawn(self._look(wanted))

    async def _look(self, wanted: list[tuple[bytes, Then]]) -> None:
        found: list[Any] = [None] * len(wanted)
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await self._client.mget([_PREFIX + key for key, _ in wanted])
        except self._errors as error:
            self._failed(error)
        else:
            self._breaker.succeeded()
        finally:
            self._looks -= 1
            for (_, then), parcel in zip(wanted, found, strict=True):
                try:
                    then(parcel if isinstance(parcel, bytes) and len(parcel) <= self.largest_bytes else None)
                except Exception as bug:
                    self._on_bug(bug)  # the others of this look must still hear of it

    async def _write(self) -> None:
        try:
            while self._kept:
                kept, self._kept, self._kept_bytes = self._kept, [], 0
                pipeline = self._client.pipeline(transaction=False)
                for key, parcel in kept:
                    pipeline.set(_PREFIX + key, parcel, px=self._ttl_ms)
                try:
                    async with asyncio.timeout(_WRITE_TIMEOUT_S):
                        await pipeline.execute()
                except self._errors as error:
                    self._failed(error)
        finally:
            self._writing = False

    async def _probe(self) -> None:
        try:
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                await self._client.ping()
        except self._errors as error:
            self._failed(error)
        else:
            if self._breaker.open:
                _log.info("the response cache's Redis is back")
            self._breaker.succeeded()

    def _failed(self, error: BaseException) -> None:
        was_open = self._breaker.open
        self._counts.failures += 1
        self._breaker.failed(self._now_ns())
        if self._breaker.open and not was_open:
            reason = str(error) or type(error).__name__
            _log.warning("the response cache's Redis does not answer (%s); doing without it until it does", reason)
