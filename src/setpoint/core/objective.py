"""Objective: what the user asks a deployment to hold, parsed from text and printed back the same."""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from setpoint.core.errors import InvalidConfiguration


class Quantity(StrEnum):
    """What a goal is about."""

    LATENCY = "latency"
    DROP = "drop"
    RATE = "rps"
    COST = "cost"


_NS_BY_UNIT = {"us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_EXAMPLE = "p99<=20ms, drop<=1%, rps>=200, cost<=0.5/h"
_GOAL = re.compile(
    r"""^\s*(?:
        p(?P<percentile>\d{1,2}(?:\.\d+)?)\s*<=\s*(?P<latency>\d+(?:\.\d+)?)\s*(?P<unit>us|ms|s)
      | drop\s*<=\s*(?P<drop>\d+(?:\.\d+)?)\s*%
      | rps\s*>=\s*(?P<rate>\d+(?:\.\d+)?)
      | cost\s*<=\s*(?P<cost>\d+(?:\.\d+)?)\s*/\s*h
    )\s*$""",
    re.VERBOSE | re.IGNORECASE,
)


class Goal(msgspec.Struct, frozen=True):
    """One clause of an objective.

    Attributes:
        quantity: what is bounded.
        bound: the number as written: in ``unit`` for latency, per cent for drop, requests/s for rps, money/h for cost.
        percentile: of latency, such as ``99.0``; 0 for other quantities.
        unit: ``us``, ``ms`` or ``s`` for latency; empty for other quantities.
    """

    quantity: Quantity
    bound: float
    percentile: float = 0.0
    unit: str = ""

    @property
    def bound_ns(self) -> int:
        """A latency bound in nanoseconds."""
        return round(self.bound * _NS_BY_UNIT[self.unit])

    def __str__(self) -> str:
        match self.quantity:
            case Quantity.LATENCY:
                return f"p{self.percentile:g}<={self.bound:.12g}{self.unit}"
            case Quantity.DROP:
                return f"drop<={self.bound:.12g}%"
            case Quantity.RATE:
                return f"rps>={self.bound:.12g}"
            case Quantity.COST:
                return f"cost<={self.bound:.12g}/h"


class Objective(msgspec.Struct, frozen=True):
    """What a deployment must hold: at most one goal per quantity, in the order written."""

    goals: tuple[Goal, ...]

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read text such as ``p99<=20ms, drop<=1%``; ``str()`` gives it back in canonical spelling.

        Raises:
            InvalidConfiguration: a clause is not understood, its number is impossible, or a quantity stands twice.
        """
        goals = tuple(_parse_goal(clause) for clause in text.split(","))
        seen: set[Quantity] = set()
        for goal in goals:
            if goal.quantity in seen:
                raise InvalidConfiguration(f"objective {text!r} bounds {goal.quantity} twice; state it once")
            seen.add(goal.quantity)
        return cls(goals)

    def _goal(self, quantity: Quantity) -> Goal | None:
        return next((goal for goal in self.goals if goal.quantity is quantity), None)

    @property
    def latency(self) -> Goal | None:
        """The latency goal, if one is stated."""
        return self._goal(Quantity.LATENCY)

    @property
    def drop(self) -> Goal | None:
        """The accuracy goal, if one is stated: how many per cent may be lost against the original."""
        return self._goal(Quantity.DROP)

    @property
    def rate(self) -> Goal | None:
        """The throughput goal, if one is stated."""
        return self._goal(Quantity.RATE)

    def __str__(self) -> str:
        return ", ".join(map(str, self.goals))


def _parse_goal(clause: str) -> Goal:
    match = _GOAL.match(clause)
    if match is None:
        raise InvalidConfiguration(
            f"objective clause {clause.strip()!r} is not understood; expected such as {_EXAMPLE}"
        )
    if (latency := match["latency"]) is not None:
        percentile, bound = float(match["percentile"]), float(latency)
        unit = match["unit"].lower()
        if percentile <= 0 or round(bound * _NS_BY_UNIT[unit]) <= 0:
            raise InvalidConfiguration(f"objective clause {clause.strip()!r}: percentile and time must be above 0")
        return Goal(Quantity.LATENCY, bound, percentile, unit)
    if (drop := match["drop"]) is not None:
        if float(drop) > 100:
            raise InvalidConfiguration(f"objective clause {clause.strip()!r}: a drop is at most 100%")
        return Goal(Quantity.DROP, float(drop))
    if (rate := match["rate"]) is not None:
        if float(rate) <= 0:
            raise InvalidConfiguration(f"objective clause {clause.strip()!r}: rps must be above 0")
        return Goal(Quantity.RATE, float(rate))
    return Goal(Quantity.COST, float(match["cost"]))
