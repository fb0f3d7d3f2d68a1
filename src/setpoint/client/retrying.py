"""When a request is sent again: only if it cannot have run, not before the server said, and never past the deadline."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from setpoint.client.exchange import Pause, Reply, Request, Send, Steps, TransportFailure
from setpoint.client.failures import error_from, may_come_again
from setpoint.core import Clock, DeadlineExceeded, InvalidConfiguration, NotReady, SetpointError

TIMEOUT_HEADER = "setpoint-timeout-ms"
_LONGEST_TIMEOUT_MS = 86_400_000.0
_NS = 1_000_000_000


class Retries(msgspec.Struct, frozen=True):
    """How often and how soon.

    Attributes:
        attempts: at most, the first included; 1 never tries again.
        first_pause_s: about the pause after the first failure to connect; it doubles from there,
        longest_pause_s: up to here.
        spread: pauses are longer by up to this share, at random, so that clients do not come again together.
    """

    attempts: int = 4
    first_pause_s: float = 0.05
    longest_pause_s: float = 5.0
    spread: float = 0.5

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_pause_s <= 0 or self.longest_pause_s <= 0 or self.spread < 0:
            raise InvalidConfiguration(f"retries need at least one attempt and pauses above 0, got {self}")

    def pause_s(self, attempt: int, told_s: float | None, chance: float) -> float:
        """How long to wait.

        Args:
            attempt: how many have failed.
            told_s: what the server said; it is never undercut.
            chance: 0 to 1, drawn at random.
        """
        grown_s: float = min(self.longest_pause_s, self.first_pause_s * 2.0 ** min(attempt - 1, 30))
        return (grown_s if told_s is None else told_s) * (1 + self.spread * chance)


def attempts(
    request: Request,
    deadline_ns: int,
    retries: Retries,
    clock: Clock,
    *,
    streamed: bool = False,
    chance: Callable[[], float] = random.random,
) -> Steps[Reply]:
    """Send a request until it has its answer, or cannot have one.

    Each attempt tells the server how much time is left.

    Raises:
        DeadlineExceeded: the time is over.
        NotReady: nobody answers, or the connection broke and the request may have been carried out.
        SetpointError: as the node answered.
    """
    attempt = 0
    while True:
        left_ns = deadline_ns - clock.now_ns()
        if left_ns <= 0:
            raise DeadlineExceeded("the time for the request was over before it was sent")
        attempt += 1
        told_s: float | None = None
        error: SetpointError
        try:
            reply: Reply = yield Send(_timed(request, left_ns), deadline_ns, streamed)
        except TransportFailure as failure:
            error = (DeadlineExceeded if failure.timed_out else NotReady)(str(failure))
            again = not failure.timed_out and (not failure.sent or request.idempotent)
        else:
            if reply.status == 200:
                return reply
            error = error_from(reply)
            again = may_come_again(reply, error)
            told_s = getattr(error, "retry_after_s", None)
        pause_s = retries.pause_s(attempt, told_s, chance())
        if not again or attempt >= retries.attempts or clock.now_ns() + int(pause_s * _NS) >= deadline_ns:
            raise error
        yield Pause(pause_s)


def _timed(request: Request, left_ns: int) -> Request:
    if request.method != "POST":
        return request
    left_ms = min(left_ns / 1e6, _LONGEST_TIMEOUT_MS)
    return msgspec.structs.replace(request, headers={**request.headers, TIMEOUT_HEADER: f"{left_ms:.3f}"})
