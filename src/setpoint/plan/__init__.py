"""Planning: how much can be held. Arrivals, the load generator, the simulator."""

from setpoint.plan.arrivals import ArrivalKind, Arrivals, Schedule, make_schedule, parse_arrivals, parse_schedule
from setpoint.plan.baselines import AimdPolicy, CorkPolicy, EagerPolicy, unbatched, window
from setpoint.plan.outcome import Outcome, TenantOutcome
from setpoint.plan.run_times import AffineRunTimes, MeasuredRunTimes, RunTimes, parse_law
from setpoint.plan.simulator import Fleet, SimulatedRequest, Traffic, simulate

__all__ = [
    "AffineRunTimes",
    "AimdPolicy",
    "ArrivalKind",
    "Arrivals",
    "CorkPolicy",
    "EagerPolicy",
    "Fleet",
    "MeasuredRunTimes",
    "Outcome",
    "RunTimes",
    "Schedule",
    "SimulatedRequest",
    "TenantOutcome",
    "Traffic",
    "make_schedule",
    "parse_arrivals",
    "parse_law",
    "parse_schedule",
    "simulate",
    "unbatched",
    "window",
]
