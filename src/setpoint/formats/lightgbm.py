"""LightGBM models, saved as text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from setpoint.core import InvalidConfiguration, ModelError
from setpoint.engines import EngineOptions
from setpoint.formats.base import PackedModel, PackOptions
from setpoint.formats.booster import Source, pack_booster
from setpoint.formats.forest import Forest, Tree, float32_below, thresholds_of, to_onnx
from setpoint.formats.peek import first_bytes

_FIRST_BYTES = (b"tree\nversion=", b"tree\r\nversion=")
_LAST_SECTION = b"end of trees"
_LINKS = {
    "binary": "sigmoid",
    "cross_entropy": "sigmoid",
    "xentropy": "sigmoid",
    "multiclass": "softmax",
    "multiclassova": "sigmoid",
    "poisson": "exp",
    "gamma": "exp",
    "tweedie": "exp",
} | dict.fromkeys(
    ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg", "custom", ""),
    "identity",
)


class LightgbmFormat:
    """What ``Booster.save_model`` writes."""

    name = "lightgbm"

    def recognises(self, source: Path) -> bool:
        """Whether the first line says that trees follow."""
        return first_bytes(source).startswith(_FIRST_BYTES)

    def pack(self, source: Path, options: PackOptions, workdir: Path) -> PackedModel:
        """Convert where that is exact; see ``pack_booster``.

        Raises:
            MissingExtra: lightgbm is not installed.
            InvalidConfiguration: it cannot be loaded, or nothing runs through it.
        """
        from setpoint.engines import lightgbm as engine

        if _LAST_SECTION not in source.read_bytes():  # the library aborts the process on some that are cut short
            raise InvalidConfiguration(f"{source} is cut short: a LightGBM model ends with {_LAST_SECTION.decode()!r}")
        try:
            executable = engine.load(source, EngineOptions())
        except ModelError as error:
            raise InvalidConfiguration(error.message) from error
        forest, why_not = _forest(executable.booster.dump_model(), executable.objective)
        graph = to_onnx(forest, executable.task, "lightgbm").SerializeToString(deterministic=True) if forest else None
        thresholds = thresholds_of(forest) if forest else {}
        return pack_booster(
            Source(self.name, ("lightgbm",), source, executable, ".txt", thresholds, graph, why_not), options, workdir
        )


class _Inexact(Exception):
    """A node that ONNX cannot say; the message says which kind."""


def _forest(model: dict[str, Any], objective: str) -> tuple[Forest | None, str]:
    """The trees, or why there is no exact ONNX graph of them."""
    kind, *settings = objective.split()
    link = _LINKS.get(kind)
    if link is None or "sqrt" in settings:
        return None, f"the objective {objective} has no exact ONNX form"
    groups = model["num_tree_per_iteration"]
    scale = 1.0 / max(1, len(model["tree_info"]) // groups) if model["average_output"] else 1.0
    if link == "sigmoid":
        steep = next((setting for setting in settings if setting.startswith("sigmoid:")), "sigmoid:1")
        scale *= float(steep.partition(":")[2])
    try:
        trees = [_tree(info, position % groups, scale) for position, info in enumerate(model["tree_info"])]
    except _Inexact as inexact:
        return None, f"{inexact} have no exact ONNX form"
    return Forest(trees, "BRANCH_LEQ", groups, [0.0] * groups, link), ""


def _tree(info: dict[str, Any], group: int, scale: float) -> Tree:
    nodes = _Nodes(scale)
    nodes.add(info["tree_structure"])
    return Tree(nodes.features, nodes.thresholds, nodes.yes, nodes.no, nodes.missing_goes_yes, nodes.values, group)


class _Nodes:
    """Lays a nested tree out in lists. By a stack: trees that overfit are deeper than Python's own."""

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self.features: list[int] = []
        self.thresholds: list[float] = []
        self.yes: list[int] = []
        self.no: list[int] = []
        self.missing_goes_yes: list[bool] = []
        self.values: list[float] = []

    def add(self, root: dict[str, Any]) -> None:
        pending: list[tuple[dict[str, Any], int, list[int]]] = [(root, -1, [])]
        while pending:
            node, parent, branch = pending.pop()
            number = len(self.yes)
            if parent >= 0:
                branch[parent] = number
            self._append(node)
            if "left_child" in node:
                pending += [(node["right_child"], number, self.no), (node["left_child"], number, self.yes)]

    def _append(self, node: dict[str, Any]) -> None:
        inner = "left_child" in node
        if node.get("leaf_coeff"):
            raise _Inexact("linear trees")
        if inner and node["decision_type"] != "<=":
            raise _Inexact("categorical splits")
        if inner and node["missing_type"] == "Zero":
            raise _Inexact("splits that take zero as missing")
        threshold = float32_below(float(node["threshold"])) if inner else 0.0
        if not math.isfinite(threshold):
            raise _Inexact("thresholds beyond float32")
        # Where no missing value was seen in training, the library takes NaN for zero.
        to_yes = inner and (node["default_left"] if node["missing_type"] == "NaN" else node["threshold"] >= 0.0)
        self.features.append(node["split_feature"] if inner else 0)
        self.thresholds.append(threshold)
        self.yes.append(0 if inner else -1)
        self.no.append(0 if inner else -1)
        self.missing_goes_yes.append(bool(to_yes))
        self.values.append(0.0 if inner else node["leaf_value"] * self._scale)
