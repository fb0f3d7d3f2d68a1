"""A folder with ``composition.json``: several models, each packed as it would be alone, and the graph between."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from setpoint.core import (
    COMPOSITION_ENGINE,
    PARTS_FOLDER,
    Composition,
    ConfigurationError,
    InvalidConfiguration,
    Lineage,
    ModelManifest,
    Signature,
)
from setpoint.formats.base import PackedModel, PackOptions
from setpoint.formats.composition_file import COMPOSITION_FILE, DeclaredStep, in_order, read_composition
from setpoint.formats.composition_types import typed
from setpoint.formats.tensor_model import source_digest, tensor_manifest


class CompositionFormat:
    """``composition.json`` and the models that it names."""

    name = "composition"

    def recognises(self, source: Path) -> bool:
        """Whether it is a folder with a ``composition.json``, or that file."""
        return (source / COMPOSITION_FILE).is_file() or (source.is_file() and source.name == COMPOSITION_FILE)

    def pack(self, source: Path, options: PackOptions, workdir: Path) -> PackedModel:
        """Pack each model, then check that all of it fits together.

        Raises:
            ConfigurationError: a model cannot be packed, or the graph does not fit; one line that names the step.
        """
        folder = (source if source.is_dir() else source.parent).resolve()
        path = folder / COMPOSITION_FILE
        declared = read_composition(path)
        try:
            in_order(declared)  # before models are packed, which may take minutes
            packed: dict[tuple[str, str], tuple[str, PackedModel]] = {}
            parts: dict[str, tuple[str, Signature]] = {}
            for step in declared.steps:
                if not step.model:
                    continue
                key = (step.model, step.sample)
                if key not in packed:
                    packed[key] = step.name, _packed(step, folder, options, workdir / PARTS_FOLDER / step.name)
                part, model = packed[key]
                parts[step.name] = part, _signature(step, model)
            whole = typed(declared, parts)
        except ConfigurationError as error:
            error.args = (f"{path}: {error}",)  # the very error: some tell programs more than their message
            raise
        models = dict(packed.values())
        composition = Composition(
            whole.steps, tuple(declared.outputs.values()), {name: model.manifest for name, model in models.items()}
        )
        files = {COMPOSITION_FILE: path}
        for name, model in models.items():
            files |= {f"{PARTS_FOLDER}/{name}/{inner}": file for inner, file in model.files.items()}
        manifest = _manifest(composition, whole.signature, path)
        return PackedModel(manifest, dict(sorted(files.items())), folder.name)


def _packed(step: DeclaredStep, folder: Path, options: PackOptions, workdir: Path) -> PackedModel:
    from setpoint.formats import recognise

    where = f"step {step.name!r}"
    text, _, entry = step.model.partition(":")
    model = _inside(folder, text, where)
    sample = _inside(folder, step.sample, where) if step.sample else None
    workdir.mkdir(parents=True)
    kind = recognise(model)
    if kind.name == CompositionFormat.name:
        raise InvalidConfiguration(f"{where}: {step.model!r} is a composition itself; put its steps into this one")
    try:
        return kind.pack(model, msgspec.structs.replace(options, entry=entry, sample=sample), workdir)
    except ConfigurationError as error:
        error.args = (f"{where}: {error}",)
        raise


def _inside(folder: Path, name: str, where: str) -> Path:
    path = folder / name
    if Path(name).is_absolute() or not path.resolve().is_relative_to(folder):
        raise InvalidConfiguration(f"{where}: {name!r} lies outside the composition's folder")
    if not path.exists():
        raise InvalidConfiguration(f"{where}: there is no {name!r} beside {COMPOSITION_FILE}")
    if path.resolve() in (folder, folder / COMPOSITION_FILE):
        raise InvalidConfiguration(f"{where}: {name!r} is this composition itself")
    return path


def _signature(step: DeclaredStep, model: PackedModel) -> Signature:
    signature = model.manifest.signature
    if signature is None:
        raise InvalidConfiguration(
            f"step {step.name!r}: {step.model} takes or gives more than tensors (endpoints "
            f"{', '.join(endpoint.name for endpoint in model.manifest.endpoints)}); a step's first one must take and "
            "give tensors"
        )
    return signature


def _manifest(composition: Composition, signature: Signature, path: Path) -> ModelManifest:
    parts = composition.parts
    lines = [source_digest(path), *(f"{name}\0{part.lineage.source_digest}" for name, part in parts.items())]
    lineage = Lineage(
        CompositionFormat.name,
        "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        {tool: version for part in parts.values() for tool, version in part.lineage.tools.items()},
        tuple(f"{name}: {check}" for name, part in parts.items() for check in part.lineage.checks),
    )
    precisions = {part.variants[0].precision for part in parts.values() if part.variants[0].engine != "python"}
    made = tensor_manifest(
        signature,
        precisions.pop() if len(precisions) == 1 else "mixed",
        lineage,
        engine=COMPOSITION_ENGINE,
        artifact=COMPOSITION_FILE,
    )
    variant = msgspec.structs.replace(made.variants[0], name=COMPOSITION_ENGINE)
    return msgspec.structs.replace(made, variants=(variant,), composition=composition)
