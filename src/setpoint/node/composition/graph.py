"""A composition's graph made ready to run: tensors by number instead of by name. Made once for a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from setpoint.core import Composition, Endpoint, Signature, Step, TensorSpec
from setpoint.node.service import ModelService
from setpoint.scheduling import StepGraph


class ReadyStep(NamedTuple):
    """One step.

    Attributes:
        step: as declared.
        part: the service of its model; None for a combination.
        endpoint: of the model.
        inputs: of the model, in its order.
        takes: numbers of the tensors that it takes, in that order.
        condition: number of the tensor that its condition asks; -1 without.
        gives: numbers of the tensors that it gives.
    """

    step: Step
    part: ModelService | None
    endpoint: Endpoint | None
    inputs: tuple[TensorSpec, ...]
    takes: tuple[int, ...]
    condition: int
    gives: tuple[int, ...]

    @property
    def where(self) -> str:
        """How messages begin."""
        return f"step {self.step.name!r}"


class Graph:
    """The steps, and how often each tensor is needed, so that it is let go when nobody needs it any more.

    Attributes:
        inputs: of the whole; their numbers are their places.
        outputs: numbers of what the whole gives.
        uses: for each tensor, by how many steps and outputs it is needed.
        by_row: tensors whose first axis counts rows, since somebody uses them so.
    """

    def __init__(self, composition: Composition, signature: Signature, parts: Mapping[str, ModelService]) -> None:
        self.inputs = signature.inputs
        numbers = {spec.name: number for number, spec in enumerate(signature.inputs)}
        needs: list[list[int]] = []
        steps: list[ReadyStep] = []
        maker: dict[int, int] = {}
        count = len(numbers)
        for place, step in enumerate(composition.steps):
            part = parts[step.part] if step.part else None
            endpoint = part.manifest.tensor_endpoint if part is not None else None
            signature_of = endpoint.signature if endpoint is not None else None
            inputs = signature_of.inputs if signature_of is not None else ()
            takes = tuple(numbers[step.inputs[spec.name]] for spec in inputs) or tuple(numbers[one] for one in step.of)
            condition = numbers[step.when.of] if step.when is not None else -1
            gives = tuple(range(count, count + len(step.outputs)))
            count += len(gives)
            for spec, number in zip(step.outputs, gives, strict=True):
                numbers[f"{step.name}.{spec.name}"] = number
                maker[number] = place
            if len(gives) == 1:
                numbers[step.name] = gives[0]
            needed = (*takes, condition)
            needs.append([maker[number] for number in needed if number in maker])
            steps.append(ReadyStep(step, part, endpoint, inputs, takes, condition, gives))
        self.steps: Sequence[ReadyStep] = steps
        self.outputs = tuple(numbers[reference] for reference in composition.outputs)
        self.order = StepGraph(needs)
        uses = [0] * count
        for ready in steps:
            for number in (*ready.takes, ready.condition):
                if number >= 0:
                    uses[number] += 1
        for number in self.outputs:
            uses[number] += 1
        self.uses = tuple(uses)
        self.by_row = frozenset(
            number
            for ready in steps
            if ready.part is None or ready.step.batched
            for number in (*ready.takes, ready.condition)
        )
