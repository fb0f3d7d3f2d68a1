"""Worker processes: one bundle each, one batch at a time, tensors through shared memory."""

from setpoint.worker.handle import WorkerEvents, WorkerHandle, WorkerSpec
from setpoint.worker.messages import (
    CALL_LIMIT_REQUESTS,
    Answered,
    Broken,
    Ran,
    Ready,
    Report,
    StreamChunk,
    StreamEnd,
)
from setpoint.worker.nursery import ForkServers, Nursery
from setpoint.worker.request import CallRequest, Request, StreamRequest, TensorRequest

__all__ = [
    "CALL_LIMIT_REQUESTS",
    "Answered",
    "Broken",
    "CallRequest",
    "ForkServers",
    "Nursery",
    "Ran",
    "Ready",
    "Report",
    "Request",
    "StreamChunk",
    "StreamEnd",
    "StreamRequest",
    "TensorRequest",
    "WorkerEvents",
    "WorkerHandle",
    "WorkerSpec",
]
