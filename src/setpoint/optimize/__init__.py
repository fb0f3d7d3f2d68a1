"""Find the operating point of a model: make variants, judge their answers, measure them, choose."""

from setpoint.optimize.bench import BenchResult, BenchRow, bench, efficiency, median_overhead_ms
from setpoint.optimize.cache import CACHE_FOLDER
from setpoint.optimize.feed import make_examples, read_examples
from setpoint.optimize.front import with_drop
from setpoint.optimize.makers import SAME
from setpoint.optimize.metrics import METRICS, UserMetric
from setpoint.optimize.optimizer import Optimizer, Request
from setpoint.optimize.page import page
from setpoint.optimize.picture import draw
from setpoint.optimize.study import Entry, Point, Skipped, Study
from setpoint.optimize.words import answer, percent, rate

__all__ = [
    "CACHE_FOLDER",
    "METRICS",
    "SAME",
    "BenchResult",
    "BenchRow",
    "Entry",
    "Optimizer",
    "Point",
    "Request",
    "Skipped",
    "Study",
    "UserMetric",
    "answer",
    "bench",
    "draw",
    "efficiency",
    "make_examples",
    "median_overhead_ms",
    "page",
    "percent",
    "rate",
    "read_examples",
    "with_drop",
]
