"""The load generator: open loop, latency from the intended send time, verdicts that say what is proven.

Pure: ``verdict``, ``search``, ``results``, ``canvas``, ``picture``. The shell: ``openloop`` sends,
``http`` and ``alarm`` serve it, ``targets`` know what to ask, ``campaign`` makes several runs.
"""

from setpoint.plan.load.campaign import find_maximum, run_rates
from setpoint.plan.load.canvas import FAINT, INK, Box, Dot, Line, Page, Shape, Text, png, svg
from setpoint.plan.load.openloop import LoadPlan, Watch, run_load
from setpoint.plan.load.picture import Axis, draw
from setpoint.plan.load.results import LoadResult, Second
from setpoint.plan.load.search import Maximum
from setpoint.plan.load.targets import RequestOptions, find_target
from setpoint.plan.load.transport import Target
from setpoint.plan.load.verdict import State, Verdict, judge, minimum_queries

__all__ = [
    "FAINT",
    "INK",
    "Axis",
    "Box",
    "Dot",
    "Line",
    "LoadPlan",
    "LoadResult",
    "Maximum",
    "Page",
    "RequestOptions",
    "Second",
    "Shape",
    "State",
    "Target",
    "Text",
    "Verdict",
    "Watch",
    "draw",
    "find_maximum",
    "find_target",
    "judge",
    "minimum_queries",
    "png",
    "run_load",
    "run_rates",
    "svg",
]
