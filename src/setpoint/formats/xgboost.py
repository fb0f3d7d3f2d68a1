"""XGBoost models, saved as JSON or UBJSON."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import msgspec

from setpoint.core import InvalidConfiguration, ModelError
from setpoint.engines import EngineOptions
from setpoint.formats.base import PackedModel, PackOptions
from setpoint.formats.booster import Source, pack_booster
from setpoint.formats.forest import Forest, Tree, thresholds_of, to_onnx
from setpoint.formats.peek import first_bytes

_JSON = re.compile(rb'\s*\{\s*"(?:learner|version)"\s*:\s*[\[{]')
_UBJSON = re.compile(rb"\{(?:L.{8}|l.{4}|I.{2}|[iU].)(?:learner\{|version\[)", re.DOTALL)
_LINKS = {
    "binary:logistic": "sigmoid",
    "reg:logistic": "sigmoid",
    "multi:softprob": "softmax",
    "multi:softmax": "softmax",
    "count:poisson": "exp",
    "reg:gamma": "exp",
    "reg:tweedie": "exp",
    "survival:cox": "exp",
} | dict.fromkeys(
    (
        "binary:logitraw",
        "rank:map",
        "rank:ndcg",
        "rank:pairwise",
        "reg:absoluteerror",
        "reg:pseudohubererror",
        "reg:quantileerror",
        "reg:squarederror",
        "reg:squaredlogerror",
    ),
    "identity",
)


class XgboostFormat:
    """What ``save_model`` writes, of a ``Booster`` or of the scikit-learn classes."""

    name = "xgboost"

    def recognises(self, source: Path) -> bool:
        """Whether the first bytes are a learner's, in JSON or UBJSON."""
        first = first_bytes(source)
        return (_JSON.match(first) is not None and b'"learner"' in first) or _UBJSON.match(first) is not None

    def pack(self, source: Path, options: PackOptions, workdir: Path) -> PackedModel:
        """Convert where that is exact; see ``pack_booster``.

        Raises:
            MissingExtra: xgboost is not installed.
            InvalidConfiguration: it cannot be loaded, or nothing runs through it.
        """
        from setpoint.engines import xgboost as engine

        first = first_bytes(source)
        try:
            executable = engine.load(source, EngineOptions())
        except ModelError as error:
            raise InvalidConfiguration(error.message) from error
        learner = msgspec.json.decode(bytes(executable.booster.save_raw("json")))["learner"]
        forest, why_not = _forest(learner, executable)
        notes = []
        if executable.iterations:
            notes.append(f"training was stopped early: the first {executable.iterations} rounds answer")
        graph = to_onnx(forest, executable.task, "xgboost").SerializeToString(deterministic=True) if forest else None
        return pack_booster(
            Source(
                library=self.name,
                distributions=("xgboost", "xgboost-cpu"),
                path=source,
                executable=executable,
                suffix=".ubj" if _UBJSON.match(first) else ".json",
                thresholds=thresholds_of(forest) if forest else {},
                graph=graph,
                why_not=why_not,
                notes=tuple(notes),
            ),
            options,
            workdir,
        )


def _forest(learner: dict[str, Any], executable: Any) -> tuple[Forest | None, str]:
    """The trees, or why there is no exact ONNX graph of them."""
    booster = learner["gradient_booster"]
    link = _LINKS.get(executable.objective)
    if link is None:
        return None, f"the objective {executable.objective} has no exact ONNX form"
    if booster["name"] not in ("gbtree", "dart"):
        return None, f"a {booster['name']} booster has no trees"
    model = booster["gbtree"]["model"] if booster["name"] == "dart" else booster["model"]
    weights = booster.get("weight_drop") or [1.0] * len(model["trees"])
    if any(any(tree["split_type"]) for tree in model["trees"]):
        return None, "categorical splits have no exact ONNX form"
    if any(int(tree["tree_param"]["size_leaf_vector"]) > 1 for tree in model["trees"]):
        return None, "leaves that hold several numbers have no exact ONNX form"
    shape = learner["learner_model_param"]
    groups = max(1, int(shape["num_class"]), int(shape.get("num_target", "1")))
    count = len(model["trees"])
    if executable.iterations:
        count = min(count, model["iteration_indptr"][executable.iterations])
    trees = [
        _tree(tree, group, weight)
        for tree, group, weight, _ in zip(model["trees"], model["tree_info"], weights, range(count), strict=False)
    ]
    score = msgspec.json.decode(shape["base_score"])
    scores = score if isinstance(score, list) else [score]
    base = [_margin(value, link) for value in (scores if len(scores) == groups else scores[:1] * groups)]
    return Forest(trees, "BRANCH_LT", groups, base, link), ""


def _margin(score: float, link: str) -> float:
    """A base score is kept as an answer; the sum starts from what the link makes that of."""
    if link == "sigmoid":
        return math.log(score / (1 - score)) if 0 < score < 1 else 0.0
    if link == "exp":
        return math.log(score) if score > 0 else 0.0
    return float(score)


def _tree(tree: dict[str, Any], group: int, weight: float) -> Tree:
    return Tree(
        features=tree["split_indices"],
        thresholds=tree["split_conditions"],
        yes=tree["left_children"],
        no=tree["right_children"],
        missing_goes_yes=[bool(way) for way in tree["default_left"]],
        values=[value * weight for value in tree["split_conditions"]],
        group=group,
    )
