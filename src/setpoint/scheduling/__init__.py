"""Which requests run together, and when. Pure: no IO, no clock, no event loop; time comes in as an argument."""

from setpoint.scheduling.queue import BatchQueue, Queued
from setpoint.scheduling.restart import RestartPolicy
from setpoint.scheduling.sizing import BatchSizer

__all__ = ["BatchQueue", "BatchSizer", "Queued", "RestartPolicy"]
