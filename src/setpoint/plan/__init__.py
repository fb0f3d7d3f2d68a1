"""Planning: how much can be held. Arrivals, the load generator, the simulator."""

from setpoint.plan.arrivals import ArrivalKind, Arrivals, Schedule, make_schedule, parse_arrivals, parse_schedule

__all__ = [
    "ArrivalKind",
    "Arrivals",
    "Schedule",
    "make_schedule",
    "parse_arrivals",
    "parse_schedule",
]
