"""A scheduler's refusal as the error that its client reads."""

from __future__ import annotations

from setpoint.core import (
    DeadlineExceeded,
    Draining,
    NotReady,
    Overloaded,
    OverShare,
    QueueFull,
    RefusedError,
    WorkerLost,
)
from setpoint.scheduling import Reason, Refuse
from setpoint.worker import Request

_LEAST_RETRY_S = 0.001
_ERRORS: dict[Reason, type[RefusedError]] = {
    Reason.QUEUE_FULL: QueueFull,
    Reason.HOPELESS: DeadlineExceeded,
    Reason.OVERLOAD: Overloaded,
    Reason.OVER_SHARE: OverShare,
    Reason.SHED: Overloaded,
    Reason.EXPIRED: DeadlineExceeded,
    Reason.WORKER_LOST: WorkerLost,
    Reason.NO_WORKER: NotReady,
    Reason.DRAINING: Draining,
}


def refusal_error(model: str, refusal: Refuse[Request]) -> RefusedError:
    """The error: which limit it met, what can be answered in time now, and when to come again."""
    return _ERRORS[refusal.reason](
        f"model {model!r} refuses the request: {refusal.explain()}", max(_LEAST_RETRY_S, refusal.retry_after_s)
    )
