"""What other installed distributions offer, found through entry points; one that is broken is told and passed over.

Our own formats and engines are registered in the same groups of pyproject.toml, and a test holds the two lists equal,
but they are found by a table: to read the metadata of everything installed takes 22 ms with 110 distributions, which
every worker would pay at its start, and a checkout that is not installed has no metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec


class Offer(msgspec.Struct, frozen=True):
    """One entry point of another distribution.

    Attributes:
        name: of the entry point.
        loaded: what it leads to, such as a class; None where it is broken.
        problem: a sentence about why it cannot be used; empty where it can.
    """

    name: str
    loaded: Any
    problem: str = ""


def offers(group: str, needs: tuple[str, ...], only: str = "") -> Iterator[Offer]:
    """Load what others offer, sorted by name.

    Args:
        group: of entry points, such as ``setpoint.formats``.
        needs: attributes without which an object is of no use.
        only: load the entry points of this name alone; all of them without.
    """
    from importlib.metadata import entry_points  # a dozen modules that a worker with an engine of ours never needs

    found = entry_points(group=group, name=only) if only else entry_points(group=group)
    for entry in sorted(found, key=lambda entry: (entry.name, entry.value)):
        if entry.value.startswith("setpoint."):
            continue
        origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
        try:
            loaded = entry.load()()
        except Exception as error:  # somebody else's module, which may fail in any way it likes
            said = f"{type(error).__name__}: {error}".partition("\n")[0]
            yield Offer(entry.name, None, f"{entry.name!r} of {origin} cannot be loaded and is passed over ({said})")
            continue
        missing = [attribute for attribute in needs if not hasattr(loaded, attribute)]
        if missing:
            problem = f"{entry.name!r} of {origin} has no {', '.join(missing)} and is passed over"
            yield Offer(entry.name, None, problem)
            continue
        yield Offer(entry.name, loaded)
