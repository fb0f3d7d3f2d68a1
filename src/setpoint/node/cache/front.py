"""The response cache of one model: it stands before the queue, and hears how each request ends.

Requests whose answer is known are answered at once; those that are already being computed wait for that; all others go
on to the queue, and what becomes of them is told to ``keep_outputs``, ``keep_json``, ``failed`` or ``abandoned``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, cast

from setpoint.core import DeadlineExceeded, Endpoint, ModelManifest, RefusedError, SetpointError
from setpoint.node.cache.entries import Entries
from setpoint.node.cache.flights import Flights, Role, shared_fate
from setpoint.node.cache.keys import KeyMaker
from setpoint.node.cache.parcel import pack, unpack
from setpoint.node.cache.terms import CacheTerms
from setpoint.node.cache.values import JsonValue, TensorsValue, Value
from setpoint.observe import CacheCounts
from setpoint.wire import BatchOutputs
from setpoint.worker import CallRequest, Request, TensorRequest


class Ends(Protocol):
    """Where requests end: the ledger."""

    def given(self, request: Request, give: Callable[[], None]) -> None:
        """Answer with what is known."""
        ...

    def fail(self, request: Request, error: SetpointError) -> None:
        """End with an error."""
        ...

    def fail_for_bug(self, requests: Sequence[Request], bug: Exception) -> None:
        """End with a bug of ours."""
        ...

    def cancelled(self, request: Request) -> None:
        """The client left."""
        ...


class SharedStore(Protocol):
    """Parcels that several nodes share: ``RedisStore``."""

    largest_bytes: int
    """Of a parcel that is taken."""

    def begin(self) -> None:
        """Work on the running event loop."""
        ...

    def look(self, key: bytes, then: Callable[[bytes | None], None]) -> bool:
        """Ask for a parcel; False where it is not asked."""
        ...

    def keep(self, key: bytes, parcel: bytes) -> None:
        """Write one, some time."""
        ...

    def sweep(self, now_ns: int) -> None:
        """Called some times a second."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


class ResponseCache:
    """Keeps answers, and lets identical requests share one run."""

    def __init__(
        self,
        terms: CacheTerms,
        digest: str,
        manifest: ModelManifest,
        *,
        longest_ns: int,
        follower_limit: int,
        counts: CacheCounts,
        now_ns: Callable[[], int],
        ends: Ends,
        enqueue: Callable[[Request, int], RefusedError | None],
        store: SharedStore | None = None,
    ) -> None:
        """Empty.

        Args:
            terms: what it may hold.
            digest: of the bundle: another version never gets this one's answers.
            manifest: of the bundle.
            longest_ns: how long a request without a deadline of its own may wait.
            follower_limit: requests that may wait for another's answer.
            counts: what is counted.
            now_ns: the time.
            ends: where requests end.
            enqueue: puts a request that waited here into the queue; returns why not.
            store: shared with other nodes.
        """
        self._keys = KeyMaker(digest, manifest, shared=terms.shared)
        self._entries: Entries[Value] = Entries(terms.budget_bytes, int(terms.ttl_s * 1e9), counts)
        self._flights: Flights[Request] = Flights(follower_limit)
        self._endpoints: dict[str, Endpoint] = {endpoint.name: endpoint for endpoint in manifest.endpoints}
        self._key_of: dict[Request, bytes] = {}
        self._longest_ns = longest_ns
        self._counts = counts
        self._now_ns = now_ns
        self._ends = ends
        self._enqueue = enqueue
        self._store = store

    def begin(self) -> None:
        """Work on the running event loop."""
        if self._store is not None:
            self._store.begin()

    @property
    def waiting(self) -> int:
        """Requests that are neither answered nor in the queue."""
        flights = (self._flights.get(key) for key in self._flights.keys())  # noqa: SIM118 - no mapping
        return self._flights.following + sum(flight is not None and flight.looking for flight in flights)

    # --- a request comes ------------------------------------------------------------------------------------------

    def take(self, request: Request, now_ns: int) -> bool:
        """Whether the cache takes care of the request: it is answered, or waits here. Otherwise it is to be queued."""
        key = self._keys.key(request)
        if key is None:
            return False
        if self._hit(key, request, now_ns):
            return True
        role = self._flights.join(key, request)
        self._key_of[request] = key
        if role is Role.FOLLOW:
            latest_ns = now_ns + self._longest_ns
            if not 0 < request.deadline_ns < latest_ns:
                request.deadline_ns = latest_ns
            return True
        self._counts.misses += 1
        looking = role is Role.RUN and self._look(key)
        self._counts.miss_ns += self._now_ns() - now_ns
        return looking

    def _hit(self, key: bytes, request: Request, now_ns: int) -> bool:
        value = self._entries.get(key, now_ns)
        if value is None:
            return False
        self._give(request, value, request.arrived_ns)
        self._counts.hits += 1
        self._counts.hit_ns += self._now_ns() - now_ns
        return True

    def _look(self, key: bytes) -> bool:
        if self._store is None or not self._store.look(key, partial(self._looked, key)):
            return False
        flight = self._flights.get(key)
        assert flight is not None, "somebody runs who looks"
        flight.looking = True
        return True

    def _looked(self, key: bytes, parcel: bytes | None) -> None:
        """The shared store has answered, or could not."""
        flight = self._flights.get(key)
        if flight is None or not flight.looking:
            return  # everybody left meanwhile
        flight.looking = False
        runner, now_ns = flight.runner, self._now_ns()
        value = None
        if parcel is not None:
            value = unpack(parcel, key, self._endpoints[runner.endpoint].signature, runner.rows)
            self._counts.invalid += value is None
        if value is None:
            self._run(key, runner, now_ns)
            return
        self._counts.misses -= 1
        self._counts.shared_hits += 1
        followers = self._flights.landed(key, runner)
        del self._key_of[runner]
        self._remember(key, value, now_ns)
        self._counts.hit_ns += now_ns - runner.arrived_ns
        self._give(runner, value, runner.arrived_ns)
        self._give_all(followers, value, now_ns)

    # --- a request that was queued ends ---------------------------------------------------------------------------

    def keep_outputs(self, request: TensorRequest, outputs: BatchOutputs, start: int, end: int) -> None:
        """A run gave this request rows ``start`` to ``end`` of ``outputs``, whether or not its client still waits."""
        key = self._key_of.pop(request, None)
        if key is None:
            return
        followers = self._flights.landed(key, request)
        if not followers and not self._may_keep(outputs, start, end):
            self._counts.oversize += 1
            return
        try:
            value = TensorsValue.of_part(outputs, start, end, request.variant)
        except Exception as bug:
            self._drop(followers)
            self._ends.fail_for_bug(followers, bug)
            return
        self._keep(key, value, request, followers)

    def keep_json(self, request: CallRequest, body: bytes) -> None:
        """A run gave this JSON."""
        key = self._key_of.pop(request, None)
        if key is not None:
            self._keep(key, JsonValue(body, request.variant), request, self._flights.landed(key, request))

    def failed(self, request: Request, error: SetpointError) -> None:
        """A request ended with an error, before it ran or behind it."""
        key = self._key_of.pop(request, None)
        if key is None:
            return
        if shared_fate(error):
            followers = self._flights.crashed(key, request)
            self._drop(followers)
            for follower in followers:
                self._ends.fail(follower, error)
        else:
            self._hand_on(key, request)

    def abandoned(self, request: Request) -> None:
        """A request left the queue, or its worker, without an answer: its client had gone."""
        key = self._key_of.pop(request, None)
        if key is not None:
            self._hand_on(key, request)

    # --- a request that waits here ends ---------------------------------------------------------------------------

    def cancel(self, request: Request) -> bool:
        """The client left. False where the request does not wait here."""
        key = self._key_of.get(request)
        if key is None:
            return False
        flight = self._flights.get(key)
        looks = flight is not None and flight.looking and flight.runner is request
        if not looks and not self._flights.left(key, request):
            return False
        del self._key_of[request]
        request.gone = True
        self._ends.cancelled(request)
        if looks:
            self._hand_on(key, request)
        return True

    def sweep(self, now_ns: int) -> None:
        """Called some times a second: followers whose time is over, entries that are too old."""
        for _, request in self._flights.expired(now_ns):
            del self._key_of[request]
            waited_s = (now_ns - request.arrived_ns) / 1e9
            self._ends.fail(
                request, DeadlineExceeded(f"the request waited {waited_s:.3g} s for the answer of an identical one")
            )
        self._entries.sweep(now_ns)
        if self._store is not None:
            self._store.sweep(now_ns)

    def abandon(self, error: SetpointError) -> None:
        """Fail whatever waits here; what was queued has ended by now."""
        for key in self._flights.keys():  # noqa: SIM118 - no mapping
            flight = self._flights.get(key)
            if flight is not None:
                waiting = [flight.runner, *self._flights.crashed(key, flight.runner)]
                self._drop(waiting)
                for request in waiting:
                    self._ends.fail(request, error)

    async def close(self) -> None:
        """Let go of the shared store."""
        if self._store is not None:
            await self._store.close()

    # --- parts ----------------------------------------------------------------------------------------------------

    def _run(self, key: bytes, runner: Request, now_ns: int) -> None:
        """Queue whoever runs; one that is refused is told so, and the next one is tried."""
        current: Request | None = runner
        while current is not None:
            error = self._enqueue(current, now_ns)
            if error is None:
                return
            refused, current = current, self._flights.stalled(key, current)
            self._counts.misses += current is not None
            del self._key_of[refused]
            self._ends.fail(refused, error)

    def _hand_on(self, key: bytes, request: Request) -> None:
        """``request`` will have no answer: the most urgent of its followers runs."""
        heir = self._flights.stalled(key, request)
        flight = self._flights.get(key)
        if heir is not None and flight is not None and not flight.looking:
            self._counts.misses += 1
            self._run(key, heir, self._now_ns())

    def _keep(self, key: bytes, value: Value, request: Request, followers: Sequence[Request]) -> None:
        now_ns = self._now_ns()
        self._remember(key, value, now_ns)
        if self._store is not None:
            self._store.keep(key, pack(key, value, self._endpoints[request.endpoint].signature))
        self._counts.miss_ns += self._now_ns() - now_ns
        self._give_all(followers, value, now_ns)

    def _remember(self, key: bytes, value: Value, now_ns: int) -> None:
        if self._entries.put(key, value, now_ns) and isinstance(value, TensorsValue):
            value.on_growth = partial(self._entries.grown, key)

    def _may_keep(self, outputs: BatchOutputs, start: int, end: int) -> bool:
        """Whether copying is worth it: the answer is not too large for every place where it could be kept."""
        size_bytes = sum(outputs.part(place, start, end).nbytes for place in range(len(outputs.arrays)))
        shared_bytes = self._store.largest_bytes if self._store is not None else 0
        return size_bytes <= max(self._entries.largest_bytes, shared_bytes)

    def _give_all(self, followers: Sequence[Request], value: Value, now_ns: int) -> None:
        self._drop(followers)
        for follower in followers:
            self._counts.coalesced += 1
            self._counts.coalesced_ns += now_ns - follower.arrived_ns
            self._give(follower, value, now_ns)

    def _give(self, request: Request, value: Value, started_ns: int) -> None:
        request.variant = value.variant
        request.started_ns = started_ns
        # The kind of a request is in its key: a value of tensors is only ever found for a request of tensors.
        if isinstance(value, JsonValue):
            give = partial(cast(CallRequest, request).answer, value.body)
        else:
            give = partial(cast(TensorRequest, request).answer, value, 0, request.rows)
        self._ends.given(request, give)

    def _drop(self, requests: Sequence[Request]) -> None:
        for request in requests:
            self._key_of.pop(request, None)
