"""The types of a composition, checked before anything of it runs. Pure.

Beside its datatype and shape, a tensor has *rows*: its first axis counts rows of something, and only tensors with the
same rows can go into one batched step. The rows are the request's; or they were made by a step that runs for a request
as a whole (detection finds N boxes), and then carry that step's name. Under conditions a tensor has some of its rows
only, or is not there at all; where such tensors meet others, each condition must be that of all or of none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile

import msgspec

from setpoint.core import (
    CHOOSE,
    COMPARISONS,
    CONCAT,
    FREE,
    MEAN,
    VOTE,
    Condition,
    InvalidConfiguration,
    Signature,
    Step,
    TensorSpec,
    split_reference,
)
from setpoint.formats.composition_file import Declared, DeclaredStep, in_order

_REQUEST = ""
_AVERAGED = ("FP16", "FP32", "FP64")
_OPPOSITE = COMPARISONS | {opposite: word for word, opposite in COMPARISONS.items()}
_ORDERED = ("above", "at_least", "below", "at_most")


class Guard(msgspec.Struct, frozen=True):
    """A condition that a tensor is under; ``by_row`` where it takes rows away instead of the whole tensor."""

    condition: Condition
    by_row: bool

    @property
    def opposite(self) -> Guard:
        """The guard that holds exactly where this one does not."""
        word = _OPPOSITE[self.condition.word]
        return Guard(msgspec.structs.replace(self.condition, word=word), self.by_row)


class Value(msgspec.Struct, frozen=True):
    """A tensor of the graph: what it is, whose rows it has, and what it is under."""

    spec: TensorSpec
    rows: str
    guards: tuple[Guard, ...] = ()


class Typed(msgspec.Struct, frozen=True):
    """A composition that fits together."""

    steps: tuple[Step, ...]
    signature: Signature


def typed(declared: Declared, parts: Mapping[str, tuple[str, Signature]]) -> Typed:
    """Check that everything fits.

    Args:
        declared: as read, names judged.
        parts: by step: the name of its model among the parts, and what that takes and gives.

    Raises:
        InvalidConfiguration: one line that names the step, what it wants and what it would get.
    """
    order = in_order(declared)
    for step in order:
        if step.model:
            _check_names(step, parts[step.name][1])
    values = {name: Value(_input_spec(name, order, parts), _REQUEST) for name in declared.inputs}
    steps = []
    for step in order:
        found = _model(step, *parts[step.name], values) if step.model else _combined(step, values)
        for spec in found[0].outputs:
            values[f"{step.name}.{spec.name}"] = Value(spec, found[1], found[2])
        if len(found[0].outputs) == 1:
            values[step.name] = values[f"{step.name}.{found[0].outputs[0].name}"]
        steps.append(found[0])
    outputs = []
    for name, reference in declared.outputs.items():
        value = _value(reference, f"output {name!r}", values)
        if value.guards:
            raise InvalidConfiguration(
                f"output {name!r}: {reference} is not always there, since a condition decides; choose between it and "
                "another one"
            )
        outputs.append((msgspec.structs.replace(value.spec, name=name), value.rows))
    inputs = tuple(values[name].spec for name in declared.inputs)
    by_row = all(step.batched or step.combination for step in steps)
    batched = (
        by_row
        and all(rows == _REQUEST and spec.shape[:1] == (FREE,) for spec, rows in outputs)
        and all(spec.shape[:1] == (FREE,) for spec in inputs)
    )
    return Typed(tuple(steps), Signature(inputs, tuple(spec for spec, _ in outputs), batched))


def _check_names(step: DeclaredStep, signature: Signature) -> None:
    if sorted(step.inputs) != sorted(spec.name for spec in signature.inputs):
        takes, given = ", ".join(map(str, signature.inputs)), ", ".join(step.inputs)
        raise InvalidConfiguration(f"step {step.name!r}: its model takes {takes}; given are {given}")


def _input_spec(name: str, steps: Sequence[DeclaredStep], parts: Mapping[str, tuple[str, Signature]]) -> TensorSpec:
    """An input of the whole is what the models that take it say."""
    spec: TensorSpec | None = None
    said = ""
    for step in steps:
        for tensor, reference in step.inputs.items():
            if reference != name:
                continue
            wanted = parts[step.name][1].input(tensor)
            assert wanted is not None, "names were judged"
            where = f"{step.name} takes it as {wanted.datatype}{list(wanted.shape)}"
            if spec is not None and not _fits(spec, wanted):
                raise InvalidConfiguration(f"input {name!r}: {said}, and {where}")
            shape = wanted.shape if spec is None else _narrower(spec.shape, wanted.shape)
            spec, said = TensorSpec(name, wanted.datatype, shape), where
    if spec is None:
        raise InvalidConfiguration(f"input {name!r}: no model takes it, so nobody knows what it is")
    return spec


def _model(
    step: DeclaredStep, part: str, signature: Signature, values: Mapping[str, Value]
) -> tuple[Step, str, tuple[Guard, ...]]:
    where = f"step {step.name!r}"
    taken = []
    for spec in signature.inputs:
        value = _value(step.inputs[spec.name], where, values)
        if not _fits(value.spec, spec):
            raise InvalidConfiguration(
                f"{where}: its model takes {spec}, and {step.inputs[spec.name]} is "
                f"{value.spec.datatype}{list(value.spec.shape)}"
            )
        taken.append((step.inputs[spec.name], value))
    guards = _together(where, taken)
    if signature.batched:
        rows = _same_rows(where, taken)
    else:
        _whole(where, taken)
        rows = step.name
    condition = step.when.condition(where) if step.when is not None else None
    if condition is not None:
        guard = Guard(condition, signature.batched)
        _check_condition(where, condition, rows if signature.batched else None, guards, values)
        if guard not in guards:
            guards = (*guards, guard)
    inputs = {spec.name: step.inputs[spec.name] for spec in signature.inputs}
    made = Step(step.name, signature.outputs, part, inputs, signature.batched, condition)
    return made, rows, guards


def _combined(step: DeclaredStep, values: Mapping[str, Value]) -> tuple[Step, str, tuple[Guard, ...]]:
    where = f"step {step.name!r}"
    kind = step.combination
    taken = [(reference, _value(reference, where, values)) for reference in step.of]
    first = taken[0][1].spec
    for reference, value in taken[1:]:
        if value.spec.datatype != first.datatype:
            raise InvalidConfiguration(
                f"{where}: {kind} takes tensors of one datatype; {step.of[0]} is {first.datatype}, {reference} is "
                f"{value.spec.datatype}"
            )
    if kind == MEAN and first.datatype not in _AVERAGED:
        raise InvalidConfiguration(f"{where}: mean takes {', '.join(_AVERAGED)}, and {step.of[0]} is {first.datatype}")
    if kind == VOTE and first.datatype in (*_AVERAGED, "BF16"):
        raise InvalidConfiguration(
            f"{where}: vote takes labels (whole numbers, BOOL, BYTES), and {step.of[0]} is {first.datatype}"
        )
    shape = _joined_shape(where, step, taken) if kind == CONCAT else _common_shape(where, kind, taken)
    if kind == CHOOSE:
        rows, guards = _chosen(where, step, taken)
    else:
        guards = _together(where, taken)
        rows = _same_rows(where, taken)
    spec = TensorSpec(step.name, first.datatype, shape)
    made = Step(step.name, (spec,), combination=kind, of=step.of, weights=step.weights, axis=step.axis)
    return made, rows, guards


def _chosen(where: str, step: DeclaredStep, taken: Sequence[tuple[str, Value]]) -> tuple[str, tuple[Guard, ...]]:
    """The first that is there: row by row where all have the same rows, else one whole tensor."""
    common = taken[0][1].guards
    for _, value in taken[1:]:
        pairs = takewhile(lambda pair: pair[0] == pair[1], zip(common, value.guards, strict=False))
        common = tuple(one for one, _ in pairs)
    left = [value.guards[len(common) :] for _, value in taken]
    last_resort = not left[-1] or any(
        len(one) == len(other) == 1 and one[0].opposite == other[0] for one in left for other in left
    )
    if not last_resort:
        raise InvalidConfiguration(
            f"{where}: there may be none of {', '.join(step.of)}; end the list with one that is always there"
        )
    rows = {value.rows for _, value in taken}
    if len(rows) == 1:
        return rows.pop(), common
    _whole(where, taken)
    return step.name, common


def _check_condition(
    where: str, condition: Condition, rows: str | None, guards: tuple[Guard, ...], values: Mapping[str, Value]
) -> None:
    value = _value(condition.of, f"{where}: its condition", values)
    if value.guards != guards[: len(value.guards)]:
        raise InvalidConfiguration(f"{where}: its condition's {condition.of} is there under other conditions only")
    spec, at = value.spec, condition.at
    is_text, text = spec.datatype == "BYTES", isinstance(condition.value, str)
    if is_text != text or (is_text and condition.word in _ORDERED):
        raise InvalidConfiguration(
            f"{where}: its condition compares {condition.of}, which is {spec.datatype}, by {condition.word} with "
            f"{condition.value!r}"
        )
    if rows is None:
        if any(guard.by_row for guard in value.guards):
            raise InvalidConfiguration(f"{where}: its condition's {condition.of} is there for some rows only")
        inner = spec.shape
    elif value.rows != rows or not spec.shape:
        raise InvalidConfiguration(
            f"{where}: its condition's {condition.of} has rows of {_named(value.rows)}, and the step those of "
            f"{_named(rows)}"
        )
    else:
        inner = spec.shape[1:]
    count = 1
    for length in inner:
        count = FREE if FREE in (length, count) else count * length
    each = "" if rows is None else " for each row"
    if at < 0 and count not in (1, FREE):
        raise InvalidConfiguration(f'{where}: {condition.of} has {count} elements{each}; say which with "at"')
    if count != FREE and at >= count:
        raise InvalidConfiguration(f'{where}: "at" is {at}, and {condition.of} has {count} elements{each}')


def _value(reference: str, where: str, values: Mapping[str, Value]) -> Value:
    value = values.get(reference)
    if value is not None:
        return value
    owner, tensor = split_reference(reference)
    known = ", ".join(name for name in values if name.startswith(f"{owner}.")) or owner
    said = "gives several tensors" if not tensor else f"has no tensor {tensor[:60]!r}"
    raise InvalidConfiguration(f"{where}: {owner!r} {said}; expected one of {known}")


def _together(where: str, taken: Sequence[tuple[str, Value]]) -> tuple[Guard, ...]:
    """The conditions that tensors used together are under: those of one must begin those of the other."""
    longest, most = taken[0]
    for reference, value in taken[1:]:
        if len(value.guards) > len(most.guards):
            longest, most = reference, value
    for reference, value in taken:
        if value.guards != most.guards[: len(value.guards)]:
            raise InvalidConfiguration(
                f"{where}: {reference} and {longest} are there under different conditions; choose between them instead"
            )
    return most.guards


def _same_rows(where: str, taken: Sequence[tuple[str, Value]]) -> str:
    first, value = taken[0]
    for reference, other in taken[1:]:
        if other.rows != value.rows:
            raise InvalidConfiguration(
                f"{where}: {first} has rows of {_named(value.rows)}, {reference} of {_named(other.rows)}; rows that "
                "are not the same cannot be batched together"
            )
    return value.rows


def _whole(where: str, taken: Sequence[tuple[str, Value]]) -> None:
    for reference, value in taken:
        if any(guard.by_row for guard in value.guards):
            raise InvalidConfiguration(
                f"{where}: it takes tensors whole, and {reference} is there for some rows only; choose first"
            )


def _named(rows: str) -> str:
    return f"step {rows!r}" if rows else "the request"


def _fits(spec: TensorSpec, wanted: TensorSpec) -> bool:
    return spec.datatype == wanted.datatype and _merge(spec.shape, wanted.shape) is not None


def _merge(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...] | None:
    """The shape of tensors that may be both; None where none can."""
    if len(one) != len(other):
        return None
    if any(FREE not in pair and pair[0] != pair[1] for pair in zip(one, other, strict=True)):
        return None
    return _narrower(one, other)


def _narrower(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    return tuple(max(pair) for pair in zip(one, other, strict=True))  # FREE is below every length


def _common_shape(where: str, kind: str, taken: Sequence[tuple[str, Value]]) -> tuple[int, ...]:
    shape: tuple[int, ...] = taken[0][1].spec.shape
    for reference, value in taken[1:]:
        merged = _merge(shape, value.spec.shape)
        if merged is None:
            raise InvalidConfiguration(
                f"{where}: {kind} takes tensors of one shape; {taken[0][0]} is {list(taken[0][1].spec.shape)}, "
                f"{reference} is {list(value.spec.shape)}"
            )
        shape = merged
    return shape


def _joined_shape(where: str, step: DeclaredStep, taken: Sequence[tuple[str, Value]]) -> tuple[int, ...]:
    rank = len(taken[0][1].spec.shape)
    if not 1 <= step.axis < rank:
        raise InvalidConfiguration(
            f"{where}: concat joins along an axis behind the rows: 1 to {rank - 1} of {step.of[0]}, got {step.axis}"
        )
    lengths = [value.spec.shape[step.axis] if len(value.spec.shape) == rank else FREE for _, value in taken]
    opened = []
    for reference, value in taken:
        shape = list(value.spec.shape)
        shape[step.axis : step.axis + 1] = [FREE]
        opened.append((reference, Value(TensorSpec(value.spec.name, value.spec.datatype, tuple(shape)), value.rows)))
    common = list(_common_shape(where, step.combination, opened))
    common[step.axis] = FREE if FREE in lengths else sum(lengths)
    return tuple(common)
