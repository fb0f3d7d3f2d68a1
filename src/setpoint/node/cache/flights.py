"""Identical requests in flight: one runs, the others wait for its answer. Pure.

For each key at most one request *runs* on behalf of *followers*. What may happen:

- Its answer comes: every follower is given it.
- It fails in a way that its followers would share (see ``shared_fate``): they are told the same.
- It will have no answer for a reason of its own (refused, too late, its client left while it waited): the most urgent
  follower runs in its place.

A request never waits behind one that is less urgent than itself: it then runs *alone*, beside the flight. Followers
keep their deadlines and are handed out when those pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Generic, Protocol, TypeVar

from setpoint.core import RefusedError, SetpointError, WorkerLost


class Urgent(Protocol):
    """A request, as far as it matters who waits for whom."""

    deadline_ns: int
    """0 where it has none."""
    priority: int
    """Lower is more urgent."""


T = TypeVar("T", bound=Urgent)


class Role(Enum):
    """What a request is to do."""

    RUN = "run"
    FOLLOW = "follow"
    ALONE = "alone"


def shared_fate(error: SetpointError) -> bool:
    """Whether requests that wait for the one with this error should have it too.

    What the inputs caused would happen to each of them again: wrong values, a model that cannot do with them, and above
    all a worker lost to them, which must not cost another worker for every follower. A refusal was about the request
    that met it: its deadline, its place in the queue.
    """
    return isinstance(error, WorkerLost) or not isinstance(error, RefusedError)


def urgency(request: Urgent) -> tuple[int, float]:
    """Sorts the most urgent first."""
    return request.priority, request.deadline_ns or float("inf")


class Flight(Generic[T]):
    """One key's requests.

    Attributes:
        runner: whose answer is awaited.
        looking: the runner is not in the queue yet, since a shared store is being asked.
    """

    __slots__ = ("followers", "looking", "runner", "sorted")

    def __init__(self, runner: T) -> None:
        self.runner = runner
        self.looking = False
        self.followers: dict[T, None] = {}
        self.sorted = True


class Flights(Generic[T]):
    """All flights of a model.

    Attributes:
        following: requests that wait for another's answer.
    """

    def __init__(self, follower_limit: int) -> None:
        """``follower_limit``: more followers than that, over all keys, run alone."""
        self._limit = follower_limit
        self._flights: dict[bytes, Flight[T]] = {}
        self.following = 0

    def join(self, key: bytes, request: T) -> Role:
        """A request whose answer is not known."""
        flight = self._flights.get(key)
        if flight is None:
            self._flights[key] = Flight(request)
            return Role.RUN
        if self.following >= self._limit or urgency(flight.runner) > urgency(request):
            return Role.ALONE
        flight.followers[request] = None
        flight.sorted = False
        self.following += 1
        return Role.FOLLOW

    def get(self, key: bytes) -> Flight[T] | None:
        """The flight of a key."""
        return self._flights.get(key)

    def landed(self, key: bytes, request: T) -> list[T]:
        """``request``, which runs or runs alone, has its answer. Returns the followers: they get the same."""
        flight = self._flights.get(key)
        if flight is None:
            return []
        followers = self._take_followers(flight)
        if flight.runner is request:
            del self._flights[key]
        return followers

    def crashed(self, key: bytes, request: T) -> list[T]:
        """``request`` failed as its followers would. Returns them; none where it ran alone."""
        flight = self._flights.get(key)
        if flight is None or flight.runner is not request:
            return []
        del self._flights[key]
        return self._take_followers(flight)

    def stalled(self, key: bytes, request: T) -> T | None:
        """``request`` will have no answer, for a reason of its own. Returns who runs now; None without followers."""
        flight = self._flights.get(key)
        if flight is None or flight.runner is not request:
            return None
        if not flight.followers:
            del self._flights[key]
            return None
        if not flight.sorted:
            flight.followers = dict.fromkeys(sorted(flight.followers, key=urgency))
            flight.sorted = True
        flight.runner = next(iter(flight.followers))
        del flight.followers[flight.runner]
        self.following -= 1
        return flight.runner

    def left(self, key: bytes, request: T) -> bool:
        """The client of a follower left. Returns whether it was one."""
        flight = self._flights.get(key)
        if flight is None or request not in flight.followers:
            return False
        del flight.followers[request]
        self.following -= 1
        return True

    def expired(self, now_ns: int) -> list[tuple[bytes, T]]:
        """Followers whose deadline has passed; they are followers no more."""
        if not self.following:
            return []
        late = [
            (key, request)
            for key, flight in self._flights.items()
            for request in flight.followers
            if 0 < request.deadline_ns < now_ns
        ]
        for key, request in late:
            self.left(key, request)
        return late

    def keys(self) -> Iterator[bytes]:
        """Of all flights."""
        return iter(tuple(self._flights))

    def _take_followers(self, flight: Flight[T]) -> list[T]:
        followers, flight.followers = list(flight.followers), {}
        flight.sorted = True
        self.following -= len(followers)
        return followers
