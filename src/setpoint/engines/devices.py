"""Which device an engine computes on: what was asked for, and what is here. Pure, but for reading what was asked for.

``SETPOINT_DEVICE`` says it for every engine of a process: one, or several by preference, as ``cuda,cpu``. Without
a second one nothing is fallen back to: a service that was meant for an accelerator and quietly runs on the CPU is found
out by its clients.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from setpoint.core import InvalidConfiguration

VARIABLE = "SETPOINT_DEVICE"
CPU = "cpu"
DEVICES = ("cpu", "cuda", "tensorrt", "rocm", "coreml", "directml", "gpu", "npu", "mps", "openvino")


def asked_device() -> str:
    """What the environment says; ``cpu`` where it says nothing."""
    return os.environ.get(VARIABLE, "").strip() or CPU


def choose(engine: str, asked: str, present: Mapping[str, str], remedies: Mapping[str, str] | None = None) -> str:
    """The first device asked for that is present.

    Args:
        engine: its name, for the message.
        asked: one device or several, by preference.
        present: devices the engine can use here → the library's own name of each.
        remedies: what to install for a device that is absent.

    Returns:
        the library's own name.

    Raises:
        InvalidConfiguration: none is present, or one is no device; says what is, and what to do.
    """
    wanted = [name.strip().lower() for name in asked.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in DEVICES]
    if unknown or not wanted:
        raise InvalidConfiguration(f"device {asked!r}: expected one of {', '.join(DEVICES)}, or several by preference")
    for name in wanted:
        if name in present:
            return present[name]
    install = [remedies[name] for name in wanted if remedies and name in remedies]
    what = f"; it needs {install[0]}" if install else ""
    raise InvalidConfiguration(
        f"device {', '.join(wanted)}: the {engine} engine here computes on {', '.join(present)} only{what}."
        f" To fall back, say so: {wanted[0]},{CPU}"
    )
