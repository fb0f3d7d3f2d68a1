"""A bundle in words and as a record for ``--json``. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from setpoint.cli.table import render
from setpoint.cli.units import format_bytes
from setpoint.core import Composition, Endpoint, Profile, Variant
from setpoint.registry import Bundle

_DIGEST_CHARACTERS = len("sha256:") + 12


def short_digest(digest: str) -> str:
    """Enough of a digest to tell bundles apart by eye; the registry finds a bundle by it."""
    return digest[:_DIGEST_CHARACTERS]


def signature_text(bundle: Bundle) -> str:
    """One line: the tensors where tensors suffice, else the endpoints."""
    if bundle.manifest.signature is not None:
        return str(bundle.manifest.signature)
    return ", ".join(endpoint_text(endpoint) for endpoint in bundle.manifest.endpoints)


def endpoint_text(endpoint: Endpoint) -> str:
    """An endpoint as it reads in Python: ``embed(texts: array) → array``."""
    takes = ", ".join(
        f"{parameter.name}{'' if parameter.required else '?'}: {_schema_text(parameter.schema)}"
        for parameter in endpoint.parameters
    )
    gives = _schema_text(endpoint.result)
    return f"{endpoint.name}({takes}) → {f'events of {gives}' if endpoint.streams else gives}"


def _schema_text(schema: dict[str, Any]) -> str:
    if reference := schema.get("$ref"):
        return str(reference).rpartition("/")[2]
    kind = schema.get("type", "any")
    if kind == "array" and isinstance(items := schema.get("items"), dict):
        return f"[{_schema_text(items)}]"
    return kind if isinstance(kind, str) else "|".join(kind)


def summary_record(bundle: Bundle) -> dict[str, Any]:
    """What ``models --json`` and ``pack --json`` print of a bundle."""
    manifest = bundle.manifest
    return {
        "name": bundle.name,
        "version": bundle.version,
        "reference": bundle.reference,
        "digest": bundle.digest,
        "aliases": bundle.aliases,
        "packed_at": bundle.packed_at,
        "size_bytes": bundle.size_bytes,
        "format": manifest.lineage.format,
        "signature": manifest.signature,
        "endpoints": [endpoint.name for endpoint in manifest.endpoints],
    }


def full_record(bundle: Bundle) -> dict[str, Any]:
    """What ``inspect --json`` prints: the summary, the whole manifest, and every file."""
    return summary_record(bundle) | {"manifest": bundle.manifest, "files": bundle.files}


def page(bundle: Bundle) -> str:
    """What ``inspect`` prints."""
    manifest = bundle.manifest
    lineage = manifest.lineage
    title = f"{bundle.reference}  {bundle.digest}"
    facts = [
        ("aliases", ", ".join(bundle.aliases) or "none"),
        ("packed", f"{bundle.packed_at}, {format_bytes(bundle.size_bytes)} in {len(bundle.files)} files"),
        ("source", f"{lineage.format} {lineage.source_digest}"),
        ("made with", ", ".join(f"{tool} {version}" for tool, version in sorted(lineage.tools.items())) or "nothing"),
        *(("checked", check) for check in lineage.checks),
    ]
    sections = [title, _facts(facts), *(_endpoint_block(endpoint) for endpoint in manifest.endpoints)]
    sections.append(
        render(
            ("VARIANT", "ENGINE", "PRECISION", "LEAST LEFT", "ARTIFACT"),
            [
                (
                    variant.name,
                    variant.engine,
                    variant.precision,
                    f"{100 * variant.accuracy:.2f} %",
                    _artifact_text(variant),
                )
                for variant in manifest.variants
            ],
            right=("LEAST LEFT",),
        )
    )
    if isinstance(manifest.composition, Composition):
        sections.append(steps_table(manifest.composition))
    if manifest.profiles:
        sections.append(profiles_table(manifest.profiles))
    sections.append(
        render(
            ("FILE", "SIZE", "DIGEST"),
            [(file.path, format_bytes(file.size_bytes), short_digest(file.digest)) for file in bundle.files],
            right=("SIZE",),
        )
    )
    return "\n\n".join(sections)


def profiles_table(profiles: Sequence[Profile]) -> str:
    """What was measured: one row for each profile, then on which hardware."""
    kinds = list(dict.fromkeys(profile.hardware for profile in profiles))
    rows = []
    for profile in profiles:
        first, best = profile.latency[0], profile.best
        rows.append(
            (
                profile.variant,
                str(profile.threads),
                f"{first.p50_ms:.3g} / {first.p99_ms:.3g} ms",
                str(best.rows),
                f"{best.p50_ms:.3g} / {best.p99_ms:.3g} ms",
                f"{best.rows_per_s:,.0f}" if best.rows_per_s >= 100 else f"{best.rows_per_s:.3g}",
                format_bytes(profile.memory_bytes),
                f"{profile.load_ms:.0f} ms",
                f"({kinds.index(profile.hardware) + 1})",
            )
        )
    right = ("THREADS", "1 ROW p50 / p99", "BEST ROWS", "p50 / p99", "ROWS/S", "MEMORY", "LOAD")
    table = render(("PROFILE", *right, "ON"), rows, right=right)
    return "\n".join([table, *(f"({number}) {kind}" for number, kind in enumerate(kinds, start=1))])


def steps_table(composition: Composition) -> str:
    """The graph: one row for each step, in an order in which they can run."""
    rows = []
    for step in composition.steps:
        if step.part:
            variant = composition.parts[step.part].variants[0]
            endpoint = composition.parts[step.part].tensor_endpoint
            runs = f"rows together, at most {endpoint.batch_rows}" if step.batched and endpoint is not None else "alone"
            does, takes = f"{variant.engine} {step.part}/{_artifact_text(variant)}", ", ".join(step.inputs.values())
        else:
            weights = f" by {', '.join(f'{weight:g}' for weight in step.weights)}" if step.weights else ""
            does, takes, runs = step.combination + weights, ", ".join(step.of), "in the node"
        if step.when is not None:
            place = f"[{step.when.at}]" if step.when.at >= 0 else ""
            runs += f", when {step.when.of}{place} {step.when.word} {step.when.value}"
        rows.append((step.name, does, takes, ", ".join(map(str, step.outputs)), runs))
    return render(("STEP", "DOES", "TAKES", "GIVES", "RUNS"), rows)


def _artifact_text(variant: Variant) -> str:
    return f"{variant.artifact}:{variant.entry}" if variant.entry else variant.artifact


def _facts(rows: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def _endpoint_block(endpoint: Endpoint) -> str:
    batching = f"rows of requests run together, at most {endpoint.batch_rows}" if endpoint.batch_rows else "alone"
    rows = [("runs", batching)]
    if endpoint.summary:
        rows.insert(0, ("does", endpoint.summary))
    if endpoint.signature is not None:
        rows += [("takes", str(spec)) for spec in endpoint.signature.inputs]
        rows += [("gives", str(spec)) for spec in endpoint.signature.outputs]
    return f"endpoint {endpoint_text(endpoint)}\n{_facts([(f'  {name}', text) for name, text in rows])}"
