"""Names of classes, from a file with one on each line, as Triton's ``label_filename`` has them."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from setpoint.core import FREE, InvalidConfiguration, Signature, TensorSpec
from setpoint.formats.base import PackedModel

_LONGEST_BYTES = 4 << 20
"""Of the file: it becomes part of the manifest, which every worker is sent."""


def labelled(packed: PackedModel, file: Path) -> PackedModel:
    """The same model, with names for the classes of the one output that has as many.

    Args:
        packed: a model of tensors.
        file: UTF-8, one label on each line; an empty line in between leaves that class without one.

    Raises:
        InvalidConfiguration: not readable, no labels in it, or no output, or several, that they can belong to.
    """
    signature = packed.manifest.signature
    if signature is None:
        raise InvalidConfiguration("--labels is for models whose outputs are tensors; this one takes and gives JSON")
    labels = _read(file)
    output = _output_for(signature, len(labels), file)
    return msgspec.structs.replace(
        packed, manifest=msgspec.structs.replace(packed.manifest, labels={output.name: labels})
    )


def _read(file: Path) -> tuple[str, ...]:
    try:
        with file.open("rb") as opened:
            content = opened.read(_LONGEST_BYTES + 1)
    except OSError as error:
        raise InvalidConfiguration(f"{file} cannot be read: {error.strerror}") from error
    if len(content) > _LONGEST_BYTES:
        raise InvalidConfiguration(f"{file} has more than {_LONGEST_BYTES} bytes; expected one label on each line")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidConfiguration(f"{file} is not UTF-8 text; expected one label on each line") from error
    labels = tuple(line.strip() for line in text.rstrip().split("\n"))
    if not any(labels):
        raise InvalidConfiguration(f"{file} holds no labels; expected one on each line")
    return labels


def _output_for(signature: Signature, count: int, file: Path) -> TensorSpec:
    numeric = [spec for spec in signature.outputs if spec.datatype != "BYTES"]
    per_row = {spec.name: spec.shape[1:] if signature.batched else spec.shape for spec in numeric}
    exact = [spec for spec in numeric if FREE not in per_row[spec.name] and math.prod(per_row[spec.name]) == count]
    candidates = exact or [spec for spec in numeric if FREE in per_row[spec.name]]
    if len(candidates) == 1:
        return candidates[0]
    outputs = ", ".join(map(str, signature.outputs))
    which = "no output has as many classes" if not candidates else "several outputs may have as many classes"
    raise InvalidConfiguration(f"{file.name} holds {count} labels, and {which}: {outputs}")
