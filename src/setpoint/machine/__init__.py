"""What this computer is and how much of it we may use, with affinity and control groups respected."""

from setpoint.machine.cpu import Cpu
from setpoint.machine.machine import (
    Machine,
    engine_fingerprint,
    fingerprint,
    library_versions,
    on_device,
    read_machine,
    usable_cores,
)
from setpoint.machine.memory import pss_bytes, rss_bytes

__all__ = [
    "Cpu",
    "Machine",
    "engine_fingerprint",
    "fingerprint",
    "library_versions",
    "on_device",
    "pss_bytes",
    "read_machine",
    "rss_bytes",
    "usable_cores",
]
