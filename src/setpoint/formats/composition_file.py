"""``composition.json`` as it is written by hand: records, and what can be said of it without looking at any model."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from setpoint.core import COMBINATIONS, COMPARISONS, Condition, InvalidConfiguration, split_reference

COMPOSITION_FILE = "composition.json"
_LIMIT_BYTES = 1 << 20
MOST_STEPS = 64
_MOST_COMBINED = 64
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_WORDS = (*COMPARISONS, *COMPARISONS.values())


class DeclaredCondition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a step runs: a reference, which element of a row where there are several, and one comparison."""

    of: str
    at: int = -1
    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    below: float | None = None
    equals: float | bool | str | None = None
    differs: float | bool | str | None = None

    def condition(self, where: str) -> Condition:
        """As a manifest records it.

        Raises:
            InvalidConfiguration: not exactly one comparison.
        """
        said = [word for word in _WORDS if getattr(self, word) is not None]
        if len(said) != 1:
            raise InvalidConfiguration(
                f"{where}: a condition has one of {', '.join(_WORDS)}; it has {' and '.join(said) or 'none'}"
            )
        return Condition(self.of, said[0], getattr(self, said[0]), self.at)


class DeclaredStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step: a model with its inputs, or one of the combinations.

    Attributes:
        model: path of the model beside the file; ``path.py:Class`` where a file has several.
        inputs: of the model: its input → reference.
        sample: ``.npz`` beside the file, of rows to probe and check the model with.
        weights: of ``mean`` and ``vote``.
        axis: of ``concat``.
    """

    name: str
    model: str = ""
    inputs: dict[str, str] = {}
    when: DeclaredCondition | None = None
    sample: str = ""
    mean: tuple[str, ...] = ()
    vote: tuple[str, ...] = ()
    concat: tuple[str, ...] = ()
    choose: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    axis: int = 1

    @property
    def combination(self) -> str:
        """Which; empty for a model."""
        return next((word for word in COMBINATIONS if getattr(self, word)), "")

    @property
    def of(self) -> tuple[str, ...]:
        """What is combined."""
        return getattr(self, self.combination) if self.combination else ()

    @property
    def references(self) -> tuple[str, ...]:
        """Everything that it needs."""
        return (*self.inputs.values(), *self.of, *((self.when.of,) if self.when is not None else ()))


class Declared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. ``outputs``: name → reference."""

    inputs: tuple[str, ...]
    steps: tuple[DeclaredStep, ...]
    outputs: dict[str, str]


def read_composition(path: Path) -> Declared:
    """Read and judge the file.

    Raises:
        InvalidConfiguration: it is no composition; one line that names the step.
    """
    size_bytes = path.stat().st_size
    if size_bytes > _LIMIT_BYTES:
        raise InvalidConfiguration(f"{path}: has {size_bytes} bytes, and a composition has at most {_LIMIT_BYTES}")
    try:
        declared = msgspec.json.decode(path.read_bytes(), type=Declared)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidConfiguration(f"{path}: {error}") from error
    try:
        check(declared)
    except InvalidConfiguration as error:
        raise InvalidConfiguration(f"{path}: {error}") from error
    return declared


def check(declared: Declared) -> None:
    """Judge names, counts and references; that it is a graph without a circle is judged by ``in_order``.

    Raises:
        InvalidConfiguration: one line that names the step.
    """
    names = [*declared.inputs, *(step.name for step in declared.steps)]
    if not declared.inputs or not declared.steps or not declared.outputs:
        raise InvalidConfiguration("a composition has inputs, steps and outputs; one of the lists is empty")
    if len(declared.steps) > MOST_STEPS:
        raise InvalidConfiguration(f"{len(declared.steps)} steps, and at most {MOST_STEPS} are allowed")
    for name in names:
        if not _NAME.fullmatch(name):
            raise InvalidConfiguration(
                f"{name[:60]!r} is no name of a step or input: expected a small letter, then up to 39 of a-z 0-9 _ -"
            )
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InvalidConfiguration(f"two steps or inputs are called {twice!r}")
    for step in declared.steps:
        _check_step(step)
    used: set[str] = set()
    for where, references in _all_references(declared):
        for reference in references:
            owner = split_reference(reference)[0]
            if owner not in names:
                near = difflib.get_close_matches(owner, names, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(names)}"
                raise InvalidConfiguration(f"{where}: no step or input is called {owner[:60]!r}; {hint}")
            used.add(owner)
    if unused := [name for name in names if name not in used]:
        raise InvalidConfiguration(f"nothing uses {', '.join(unused)}: take it away, or use what it gives")


def in_order(declared: Declared) -> tuple[DeclaredStep, ...]:
    """The steps, each after those that it needs; among them in the file's order.

    Raises:
        InvalidConfiguration: some go in a circle; names them.
    """
    left = {step.name: step for step in declared.steps}
    placed: dict[str, DeclaredStep] = {}
    while left:
        free = [step for step in left.values() if not _needs(step) & left.keys()]
        if not free:
            raise InvalidConfiguration(f"steps go in a circle: {' → '.join(_circle(left))}")
        for step in free:
            placed[step.name] = left.pop(step.name)
    return tuple(placed.values())


def _check_step(step: DeclaredStep) -> None:
    where = f"step {step.name!r}"
    kinds = [word for word in COMBINATIONS if getattr(step, word)]
    if len(kinds) + bool(step.model) != 1:
        raise InvalidConfiguration(f"{where}: expected one of model, {', '.join(COMBINATIONS)}")
    if step.model and (not step.inputs or step.weights):
        wrong = "weights are for mean and vote" if step.weights else "its model needs inputs"
        raise InvalidConfiguration(f"{where}: {wrong}")
    if kinds:
        if step.inputs or step.when is not None or step.sample:
            raise InvalidConfiguration(f"{where}: inputs, when and sample are for steps with a model")
        if not 2 <= len(step.of) <= _MOST_COMBINED:
            raise InvalidConfiguration(f"{where}: {kinds[0]} takes 2 to {_MOST_COMBINED} tensors, got {len(step.of)}")
        if step.weights:
            _check_weights(where, step)


def _check_weights(where: str, step: DeclaredStep) -> None:
    if step.combination not in ("mean", "vote"):
        raise InvalidConfiguration(f"{where}: weights are for mean and vote")
    if len(step.weights) != len(step.of):
        raise InvalidConfiguration(f"{where}: {len(step.of)} tensors and {len(step.weights)} weights")
    if not all(math.isfinite(weight) and weight > 0 for weight in step.weights):
        raise InvalidConfiguration(f"{where}: weights are numbers above 0, got {list(step.weights)}")


def _all_references(declared: Declared) -> Iterable[tuple[str, tuple[str, ...]]]:
    for step in declared.steps:
        yield f"step {step.name!r}", step.references
    for name, reference in declared.outputs.items():
        yield f"output {name!r}", (reference,)


def _needs(step: DeclaredStep) -> set[str]:
    return {split_reference(reference)[0] for reference in step.references}


def _circle(left: dict[str, DeclaredStep]) -> list[str]:
    """One circle among steps each of which needs another one of them."""
    seen: list[str] = []
    name = next(iter(left))
    while name not in seen:
        seen.append(name)
        name = next(needed for needed in left if needed in _needs(left[name]))
    return [*reversed(seen[seen.index(name) :]), seen[-1]]
