"""``setpoint pack``: a file becomes a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from setpoint.cli.describe import short_digest, signature_text, summary_record
from setpoint.cli.progress import working
from setpoint.cli.sources import packing_options
from setpoint.cli.table import print_json
from setpoint.formats import PackOptions
from setpoint.registry import Registry, pack_source


@click.command("pack")
@click.argument("path", type=click.Path())
@packing_options
@click.option(
    "--alias", "alias_name", metavar="ALIAS", help="Point this alias at the packed version, such as champion."
)
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Names of the classes of the model's output, one on each line: V2's classification answers with them.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a record instead of lines.")
def command(
    path: str,
    name: str | None,
    trust: bool,
    sample: Path | None,
    engine: str | None,
    alias_name: str | None,
    labels: Path | None,
    as_json: bool,
) -> None:
    """Make a model file into a bundle in the registry.

    PATH is an ONNX file, a scikit-learn model, or a Python file with a setpoint.Model (file.py:ClassName where it holds
    several). What it is, its content tells, not its suffix. A model that is converted is checked: it must answer as its
    source does. Packing the same content again changes nothing.
    """
    registry = Registry.default()
    options = PackOptions(trust=trust, sample=sample, engine=engine or "", labels=labels)
    with working(f"packing {path}"):
        bundle, created = pack_source(path, name=name, options=options, registry=registry)
    if alias_name is not None:
        bundle = registry.set_alias(bundle.name, alias_name, bundle.version)
    if as_json:
        print_json(summary_record(bundle) | {"created": created})
        return
    click.echo(f"{'packed' if created else 'unchanged':<9}  {bundle.reference}  {short_digest(bundle.digest)}")
    click.echo(f"{'takes':<9}  {signature_text(bundle)}")
    for check in bundle.manifest.lineage.checks:
        click.echo(f"{'checked':<9}  {check}")
    click.echo(f"{'next':<9}  setpoint serve {bundle.name}")
