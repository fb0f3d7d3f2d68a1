"""Find the operating point of a model: make variants, judge their answers, measure them, choose."""

from setpoint.optimize.metrics import METRICS, UserMetric
from setpoint.optimize.optimizer import EVIDENCE, Optimizer, Request
from setpoint.optimize.study import Entry, Point, Skipped, Study
from setpoint.optimize.words import answer, percent, rate

__all__ = [
    "EVIDENCE",
    "METRICS",
    "Entry",
    "Optimizer",
    "Point",
    "Request",
    "Skipped",
    "Study",
    "UserMetric",
    "answer",
    "percent",
    "rate",
]
