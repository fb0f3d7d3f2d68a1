"""Composition: several models as one, by a declared graph of steps. Only records; ``formats.composition`` judges them.

A *reference* names a tensor: ``step.tensor``, or the name alone of an input of the whole or of a step that gives one
tensor. Names of steps and inputs hold no dot, so the first dot ends them; names of tensors may.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from setpoint.core.signature import TensorSpec

ENGINE = "composition"
"""What stands for an engine in a composition's manifest. No worker loads it: its steps' models have their own."""
CHOOSE, CONCAT, MEAN, VOTE = "choose", "concat", "mean", "vote"
COMBINATIONS = (MEAN, VOTE, CONCAT, CHOOSE)
COMPARISONS = {"above": "at_most", "at_least": "below", "equals": "differs"}
"""The words of a condition, each with the one that holds exactly where it does not."""


class Condition(msgspec.Struct, frozen=True, omit_defaults=True):
    """When a step runs: row by row where its model is batched, else for the request as a whole.

    Attributes:
        of: reference to what is compared: one element for each row, or one altogether.
        word: one of ``COMPARISONS`` or of what stands opposite them.
        value: what it is compared with; text for BYTES.
        at: which element of a row is meant, where a row has several; -1 where it has one.
    """

    of: str
    word: str
    value: float | bool | str
    at: int = -1


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step: a model that workers run, or a combination that the node computes.

    Attributes:
        name: unique in the graph.
        outputs: what it gives, with the first axis as other steps see it.
        part: name of the model that runs it; empty for a combination.
        inputs: of its model: name → reference.
        batched: rows of different requests run together.
        when: None where it always runs.
        combination: one of ``COMBINATIONS``; empty for a model.
        of: what is combined: references.
        weights: one for each of them; empty where all count the same.
        axis: along which ``concat`` joins.
    """

    name: str
    outputs: tuple[TensorSpec, ...]
    part: str = ""
    inputs: dict[str, str] = {}
    batched: bool = False
    when: Condition | None = None
    combination: str = ""
    of: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    axis: int = 1

    @property
    def references(self) -> tuple[str, ...]:
        """What it needs, its condition's value last."""
        needed = (*self.inputs.values(), *self.of)
        return needed if self.when is None else (*needed, self.when.of)


class StepTime(NamedTuple):
    """What one step of one request took.

    Attributes:
        rows: that its model was asked; 0 for what the node combines.
        queue_ns: until its first batch began.
        run_ns: the slowest of its batches.
    """

    step: str
    rows: int
    queue_ns: int
    run_ns: int


def split_reference(reference: str) -> tuple[str, str]:
    """Step (or input) and tensor; the tensor is empty where the name stands alone."""
    owner, _, tensor = reference.partition(".")
    return owner, tensor
