"""The page on statistics names every series of a model that there is, and none that there is not."""

import re
from pathlib import Path

from setpoint.observe import CacheCounts, LoopLag, ModelMetrics, model_families

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "statistics.md").read_text()
NODES = {"setpoint_queue_rows", "setpoint_queue_age_seconds", "setpoint_requests_in_flight", "setpoint_workers"}
"""Gauges that the node adds."""


def test_the_page_names_exactly_the_series_that_there_are() -> None:
    families = [*model_families(ModelMetrics(), {}, 1, {}), *CacheCounts().families({}), *LoopLag(1, 1).families()]
    (table,) = re.findall(r"^\| metric \|.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`(setpoint_\w+)`", table)) == {family.name for family in families} | NODES


def test_the_examples_use_series_that_there_are() -> None:
    named = {name.removesuffix("_bucket") for name in re.findall(r"(setpoint_\w+)\{", PAGE)}
    assert named <= {family.name for family in model_families(ModelMetrics(), {}, 1, {})}
