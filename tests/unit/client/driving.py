"""Drives an operation's steps without a network: the test says what each step gets."""

from collections.abc import Iterable
from typing import Any

from setpoint.client.exchange import Pause, Reply, Send, Steps, TransportFailure
from setpoint.testing import SimulatedClock


class Drive:
    """Runs steps against a list of replies and failures, in order.

    Attributes:
        sent: what was asked of the network.
        paused_s: the pauses, in order.
    """

    def __init__(self, clock: SimulatedClock) -> None:
        self.clock = clock
        self.sent: list[Send] = []
        self.paused_s: list[float] = []

    def __call__(
        self, steps: Steps[Any], answers: Iterable[Reply | TransportFailure], each_takes_s: float = 0.0
    ) -> Any:
        remaining = iter(answers)
        given: Any = None
        try:
            while True:
                step = steps.throw(given) if isinstance(given, TransportFailure) else steps.send(given)
                if isinstance(step, Pause):
                    self.paused_s.append(step.seconds)
                    self.clock.advance_ns(int(step.seconds * 1e9))
                    given = None
                else:
                    self.sent.append(step)
                    self.clock.advance_ns(int(each_takes_s * 1e9))
                    given = next(remaining)
        except StopIteration as end:
            return end.value
