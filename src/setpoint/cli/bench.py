"""``setpoint bench``: what this machine can do with a model, and what serving adds to it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click
import msgspec

from setpoint.cli.progress import telling
from setpoint.cli.references import complete_reference_or_path
from setpoint.cli.sources import device_option, packing_options
from setpoint.cli.table import print_json, render
from setpoint.cli.units import Duration, format_bytes
from setpoint.core import COMPOSITION_ENGINE, InvalidConfiguration, SystemClock
from setpoint.formats import PackOptions
from setpoint.machine import fingerprint, on_device, read_machine
from setpoint.optimize import (
    BenchResult,
    bench,
    efficiency,
    make_examples,
    median_overhead_ms,
    rate,
    read_examples,
)
from setpoint.registry import Bundle, Registry, open_model


@click.command("bench")
@click.argument("model", metavar="PATH_OR_NAME", shell_complete=complete_reference_or_path)
@packing_options
@click.option("--variant", help="Which of the model's variants.  [default: the most accurate]")
@click.option("--threads", type=click.IntRange(1), help="Engine threads.  [default: the cores]")
@device_option
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Rows to run: an .npz with one array per input; made up without.",
)
@click.option("--length", type=click.IntRange(1), help="Of free axes such as a sequence's, where rows are made up.")
@click.option("--budget", type=Duration(), default=60.0, show_default="1m", help="Begin nothing new after this time.")
@click.option("--json", "as_json", is_flag=True, help="Print a record instead of a table.")
def command(
    model: str,
    name: str | None,
    trust: bool,
    sample: Path | None,
    engine: str | None,
    variant: str | None,
    threads: int | None,
    device: str,
    data: Path | None,
    length: int | None,
    budget: float,
    as_json: bool,
) -> None:
    """Measure a model beside its bare engine.

    By batch size: the engine in a plain loop, the same in the worker process that serves it, and there and back as the
    node sees it. In turn, so that whatever else the machine does falls on all of them.
    """
    registry = Registry.default()
    with telling(f"opening {model}") as tell:
        options = PackOptions(trust=trust, sample=sample, engine=engine or "")
        bundle = open_model(model, name=name, options=options, registry=registry)
        result = _measure(bundle, registry.folder(bundle), variant, threads, device, data, length, budget, tell)
    if as_json:
        print_json(_record(bundle, result))
        return
    click.echo(f"{bundle.reference}  {result.variant}, {result.threads} threads   {_hardware(result)}")
    click.echo(_table(result))
    click.echo(
        f"load {result.load_ms:.0f} ms, first run {result.warmup_ms:.3g} ms,"
        f" worker {format_bytes(result.memory_bytes)}; there and back adds {median_overhead_ms(result):.3g} ms;"
        f" best rate {efficiency(result):.0%} of the engine alone"
    )
    if result.spread > 0.05:
        click.echo(f"the machine was busy: the least certain median is off by {result.spread:.0%}")


def _measure(
    bundle: Bundle,
    folder: Path,
    variant: str | None,
    threads: int | None,
    device: str,
    data: Path | None,
    length: int | None,
    budget_s: float,
    tell: Any,
) -> BenchResult:
    manifest = bundle.manifest
    chosen = manifest.variants[0] if variant is None else manifest.variant(variant)
    if chosen.engine == COMPOSITION_ENGINE:
        raise InvalidConfiguration(f"{bundle.reference} is a composition; setpoint load measures it as a whole")
    if manifest.signature is None or chosen.engine == "python":
        raise InvalidConfiguration(f"{bundle.reference} is a Python class; bench measures models that take tensors")
    if data is not None:
        examples = read_examples(data, manifest.signature)
    else:
        examples = make_examples(folder / manifest.variants[0].artifact, manifest.signature, length)
    return asyncio.run(
        bench(
            manifest,
            folder,
            chosen.name,
            threads or read_machine().cores,
            examples,
            clock=SystemClock(),
            budget_s=budget_s,
            tell=tell,
            device=device,
        )
    )


def _table(result: BenchResult) -> str:
    rows = [
        (
            str(row.alone.rows),
            f"{row.alone.p50_ms:.3g} ms",
            f"{row.worker.p50_ms:.3g} ms",
            f"{row.worker.p99_ms:.3g} ms",
            f"{row.through.p50_ms:.3g} ms",
            rate(row.alone.rows_per_s),
            rate(row.through.rows_per_s),
        )
        for row in result.rows
    ]
    header = ("ROWS", "ENGINE p50", "WORKER p50", "p99", "THROUGH p50", "ENGINE ROWS/S", "THROUGH ROWS/S")
    return render(header, rows, right=header)


def _hardware(result: BenchResult) -> str:
    return on_device(fingerprint(), result.device)


def _record(bundle: Bundle, result: BenchResult) -> dict[str, Any]:
    measured: dict[str, Any] = msgspec.to_builtins(result)
    return {"model": bundle.reference, "hardware": _hardware(result)} | measured
