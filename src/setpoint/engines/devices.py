"""Which device an engine computes on: what was asked for, and what is here. Pure.

One device is asked for, or several by preference, as ``cuda,cpu``. Without a second one nothing is fallen back to: a
service that was meant for an accelerator and quietly runs on the CPU is found out by its clients.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from setpoint.core import InvalidConfiguration, ModelError

CPU = "cpu"
DEVICES = ("cpu", "cuda", "tensorrt", "rocm", "coreml", "directml", "gpu", "npu", "openvino")
_log = logging.getLogger("setpoint.engines")
T = TypeVar("T")


def preference(asked: str) -> tuple[str, ...]:
    """The devices asked for, the preferred one first.

    Raises:
        InvalidConfiguration: one is no device, or there is none; says which there are.
    """
    wanted = tuple(name.strip().lower() for name in asked.split(",") if name.strip())
    if not wanted or any(name not in DEVICES for name in wanted):
        raise InvalidConfiguration(f"device {asked!r}: expected one of {', '.join(DEVICES)}, or several by preference")
    return tuple(dict.fromkeys(wanted))


def start(
    engine: str,
    asked: str,
    present: Collection[str],
    begin: Callable[[str], T],
    remedies: Mapping[str, str] | None = None,
) -> T:
    """Begin on the first device asked for that is present and can be begun on.

    Args:
        engine: its name, for messages.
        asked: one device or several, by preference.
        present: devices that the engine can use here, as far as it can tell without using one.
        begin: loads on a device; that it cannot is an answer where another one was asked for, too.
        remedies: what to install for a device that is absent.

    Returns:
        what ``begin`` gave.

    Raises:
        InvalidConfiguration: none is present, or one is no device; says what is, and what to do.
        ModelError: as ``begin`` said of the last of them.
    """
    wanted = preference(asked)
    usable = [name for name in wanted if name in present]
    if not usable:
        install = [remedies[name] for name in wanted if remedies and name in remedies]
        what = f"; it needs {install[0]}" if install else ""
        back = "" if CPU in wanted else f". To fall back, say so: {','.join(wanted)},{CPU}"
        raise InvalidConfiguration(
            f"device {', '.join(wanted)}: the {engine} engine here computes on {', '.join(present)} only{what}{back}"
        )
    for name, following in itertools.pairwise(usable):
        try:
            return begin(name)
        except ModelError as error:
            _log.warning("device %s: %s; falling back to %s", name, error.message, following)
    return begin(usable[-1])


class OnCpu:
    """What engines that compute on the CPU alone have in common."""

    name: str

    def devices(self) -> tuple[str, ...]:
        """The CPU."""
        return (CPU,)


def need_cpu(engine: str, asked: str) -> None:
    """Refuse what an engine cannot do that computes on the CPU alone.

    Raises:
        InvalidConfiguration: the CPU was not asked for, or something is no device.
    """
    start(engine, asked, (CPU,), str)
