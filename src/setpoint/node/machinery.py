"""What a service is made of: a queue that decides, a dispatch that does it, and a crew of workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from setpoint.core import Clock, Limits, SetpointError
from setpoint.machine import engine_fingerprint
from setpoint.node.config import ModelConfig
from setpoint.node.crew import Crew, Launch
from setpoint.node.dispatch import Dispatch
from setpoint.node.judgement import policy_of
from setpoint.node.ledger import Ledger
from setpoint.node.slot import Slot
from setpoint.observe import ModelMetrics
from setpoint.scheduling import Refuse, Scheduler
from setpoint.worker import Request, StreamRequest


class Queue(Protocol):
    """Where requests wait; of a model of one piece, its ``Scheduler``."""

    @property
    def waiting_requests(self) -> int:
        """Requests that it has."""
        ...

    @property
    def waiting_rows(self) -> int:
        """Their rows."""
        ...

    def waiting(self) -> Iterator[Request]:
        """Those that wait for a worker."""
        ...

    def arrived(self, request: Request, now_ns: int) -> Refuse[Request] | None:
        """Let a request wait, or say why not."""
        ...

    def cancelled(self, request: Request) -> bool:
        """Its client has left; whether it waited here."""
        ...

    def tick(self, now_ns: int) -> None:
        """Time has passed."""
        ...


class Sender(Protocol):
    """Does what the queue decides; ``Dispatch``.

    Attributes:
        due: it does so at the end of this turn of the event loop anyway.
    """

    due: bool

    def begin(self, slots: Sequence[Slot]) -> None:
        """Work on the running event loop."""
        ...

    def soon(self) -> None:
        """Do it at the end of this turn of the event loop."""
        ...

    def now(self) -> None:
        """Do it now."""
        ...

    def abandon(self, error: SetpointError) -> None:
        """Fail whatever waits or runs."""
        ...

    def cancel_stream(self, request: StreamRequest) -> None:
        """The client of a stream has left."""
        ...

    def resume(self, request: StreamRequest) -> None:
        """The client of a congested stream has caught up."""
        ...


class Workers(Protocol):
    """Who computes; ``Crew``."""

    @property
    def slots(self) -> Sequence[Slot]:
        """Their places."""
        ...

    @property
    def devices(self) -> tuple[str, ...]:
        """That the variants are on."""
        ...

    @property
    def refusal(self) -> str:
        """Why new requests are not even queued; empty where they are."""
        ...

    @property
    def ready(self) -> bool:
        """Whether requests can be answered."""
        ...

    async def start(self) -> None:
        """Start the workers and wait until they are ready."""
        ...

    def close(self) -> None:
        """Tell them to end."""
        ...

    async def ended(self) -> None:
        """Wait until none is left."""
        ...

    def sweep(self, now_ns: int) -> None:
        """Called a few times a second."""
        ...


class Machinery(NamedTuple):
    """The parts, and the variants that workers hold, as the queue counts them."""

    variants: tuple[str, ...]
    queue: Queue
    sender: Sender
    workers: Workers


def machinery_of(
    config: ModelConfig,
    limits: Limits,
    clock: Clock,
    launch: Launch,
    ledger: Ledger,
    metrics: ModelMetrics,
) -> Machinery:
    """Those of a model of one piece.

    Raises:
        InvalidConfiguration: no variant is accurate enough for the objective.
    """
    policy, variants = policy_of(config, limits, engine_fingerprint)
    scheduler: Scheduler[Request] = Scheduler(policy)
    bundle = config.bundle
    dispatch = Dispatch(bundle.name, bundle.manifest, variants, scheduler, ledger, metrics, limits, clock)
    return Machinery(variants, scheduler, dispatch, Crew(config, variants, limits, clock, metrics, dispatch, launch))
