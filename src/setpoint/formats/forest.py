"""Gradient-boosted trees as a record, as an ONNX graph, and the rows that would tell the two apart.

Written here and not left to a general converter: what decides whether a tree answers alike is the comparison at its
thresholds, the way of missing values, and what is done to the sum, which is a page of code, and each library says them
in its own file exactly.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from setpoint.engines import boosters

OPSETS = {"": 18, "ai.onnx.ml": 3}
"""Of graphs of ours: read by every ONNX Runtime since 1.14; later ones change nothing for these models."""
_ROWS = 255
_RAW = "raw"
LINKS = ("identity", "sigmoid", "softmax", "exp")


class Tree(msgspec.Struct, frozen=True):
    """One tree, its nodes in parallel lists; node 0 is the root.

    Attributes:
        features: column compared at an inner node.
        thresholds: float32 it is compared with.
        yes, no: the nodes that follow; -1 at a leaf.
        missing_goes_yes: where NaN goes.
        values: what a leaf adds.
        group: which number of the answer it adds to.
    """

    features: list[int]
    thresholds: list[float]
    yes: list[int]
    no: list[int]
    missing_goes_yes: list[bool]
    values: list[float]
    group: int


class Forest(msgspec.Struct, frozen=True):
    """All trees and what is done with their sum.

    Attributes:
        trees: in order.
        comparison: ``BRANCH_LT`` or ``BRANCH_LEQ``: what sends a row to ``yes``.
        groups: numbers per row.
        base: what each number starts from.
        link: what is done to the sums, one of ``LINKS``.
    """

    trees: list[Tree]
    comparison: str
    groups: int
    base: list[float]
    link: str


def to_onnx(forest: Forest, task: boosters.Task, name: str) -> onnx.ModelProto:
    """A graph that takes and gives what ``task`` says."""
    nodes = [_ensemble(forest, _RAW), *_linked(forest, task)]
    values = {"FP32": TensorProto.FLOAT, "INT64": TensorProto.INT64, "BYTES": TensorProto.STRING}
    inputs, outputs = (
        [helper.make_tensor_value_info(one.name, values[one.datatype], list(one.axes)) for one in side]
        for side in (task.inputs, task.outputs)
    )
    constants = [
        helper.make_tensor("first", TensorProto.INT64, [1], [1]),
        helper.make_tensor("half", TensorProto.FLOAT, [], [0.5]),
        helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
    ]
    used = {tensor for node in nodes for tensor in node.input}
    graph = helper.make_graph(nodes, name, inputs, outputs, [tensor for tensor in constants if tensor.name in used])
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="setpoint")


def _ensemble(forest: Forest, output: str) -> onnx.NodeProto:
    tree_ids = [number for number, tree in enumerate(forest.trees) for _ in tree.yes]
    node_ids = [node for tree in forest.trees for node in range(len(tree.yes))]
    is_leaf = [successor < 0 for tree in forest.trees for successor in tree.yes]
    leaves = [
        (number, node, tree.group, tree.values[node])
        for number, tree in enumerate(forest.trees)
        for node, successor in enumerate(tree.yes)
        if successor < 0
    ]
    return helper.make_node(
        "TreeEnsembleRegressor",
        [boosters.INPUT],
        [output],
        domain="ai.onnx.ml",
        n_targets=forest.groups,
        base_values=[float(value) for value in forest.base],
        nodes_treeids=tree_ids,
        nodes_nodeids=node_ids,
        nodes_featureids=[feature for tree in forest.trees for feature in tree.features],
        nodes_modes=["LEAF" if leaf else forest.comparison for leaf in is_leaf],
        nodes_values=[float(value) for tree in forest.trees for value in tree.thresholds],
        nodes_truenodeids=[max(node, 0) for tree in forest.trees for node in tree.yes],
        nodes_falsenodeids=[max(node, 0) for tree in forest.trees for node in tree.no],
        nodes_missing_value_tracks_true=[int(way) for tree in forest.trees for way in tree.missing_goes_yes],
        target_treeids=[leaf[0] for leaf in leaves],
        target_nodeids=[leaf[1] for leaf in leaves],
        target_ids=[leaf[2] for leaf in leaves],
        target_weights=[float(leaf[3]) for leaf in leaves],
        post_transform="NONE",
    )


def _linked(forest: Forest, task: boosters.Task) -> list[onnx.NodeProto]:
    operator = {"identity": "Identity", "sigmoid": "Sigmoid", "softmax": "Softmax", "exp": "Exp"}[forest.link]
    node = helper.make_node
    if not task.labels:
        if task.width:
            return [node(operator, [_RAW], [boosters.PREDICTION])]
        return [node(operator, [_RAW], ["linked"]), node("Squeeze", ["linked", "first"], [boosters.PREDICTION])]
    if forest.groups == 1:
        return [
            node(operator, [_RAW], ["second"]),
            node("Sub", ["one", "second"], ["other"]),
            node("Concat", ["other", "second"], [boosters.PROBABILITIES], axis=1),
            node("Greater", ["second", "half"], ["above"]),
            node("Squeeze", ["above", "first"], ["chosen"]),
            node("Cast", ["chosen"], [boosters.LABEL], to=TensorProto.INT64),
        ]
    return [
        node(operator, [_RAW], [boosters.PROBABILITIES]),
        node("ArgMax", [boosters.PROBABILITIES], [boosters.LABEL], axis=1, keepdims=0),
    ]


Thresholds = dict[int, NDArray[np.float32]]
"""Sorted float32 values by column; a column that is nowhere compared is absent."""


def thresholds_of(forest: Forest) -> Thresholds:
    """What each column is compared with."""
    found: dict[int, set[float]] = {}
    for tree in forest.trees:
        for feature, threshold, successor in zip(tree.features, tree.thresholds, tree.yes, strict=True):
            if successor >= 0:
                found.setdefault(feature, set()).add(threshold)
    return {feature: np.array(sorted(values), np.float32) for feature, values in found.items()}


def telling_rows(thresholds: Thresholds, columns: int, *, holes: bool = False) -> NDArray[np.float32]:
    """Rows that fall on thresholds and beside them, where a wrong comparison shows; the same every time.

    Args:
        thresholds: of columns that have any; others are drawn from a wide and a narrow range.
        columns: of the rows.
        holes: a fifth of the values are missing.

    Returns:
        float32 ``[255, columns]``.
    """
    random = np.random.default_rng(1 if holes else 0)
    rows = random.standard_normal((_ROWS, columns)) * np.where(random.random((_ROWS, 1)) < 0.5, 1.0, 100.0)
    for column, known in thresholds.items():
        chosen = random.choice(known, _ROWS)
        beside = np.stack([np.nextafter(chosen, np.float32(-np.inf)), chosen, np.nextafter(chosen, np.float32(np.inf))])
        near = beside[random.integers(0, 3, _ROWS), np.arange(_ROWS)]
        spread = float(known.max()) - float(known.min()) + 1.0
        between = random.uniform(float(known.min()) - 0.1 * spread, float(known.max()) + 0.1 * spread, _ROWS)
        rows[:, column] = np.where(random.random(_ROWS) < 0.6, near, between)
    rows[0] = 0
    if holes:
        rows[random.random(rows.shape) < 0.2] = np.nan
    with np.errstate(over="ignore"):
        return np.nan_to_num(rows.astype(np.float32), nan=np.nan, posinf=0.0, neginf=0.0)


def float32_below(value: float) -> float:
    """The largest float32 that is not above a double: float32 rows compare with it as with the double."""
    with np.errstate(over="ignore"):
        nearest: Any = np.float32(value)
    return float(np.nextafter(nearest, np.float32(-np.inf)) if float(nearest) > value else nearest)
