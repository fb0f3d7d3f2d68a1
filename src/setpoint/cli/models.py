"""``setpoint models``: what the registry holds."""

from __future__ import annotations

import click

from setpoint.cli.describe import short_digest, signature_text, summary_record
from setpoint.cli.table import print_json, render
from setpoint.cli.units import format_bytes
from setpoint.registry import Bundle, Registry

_HEADER = ("MODEL", "ALIASES", "FORMAT", "SIZE", "PACKED", "DIGEST", "TAKES → GIVES")


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="Print a list of records instead of a table.")
def command(as_json: bool) -> None:
    """List the models in the registry."""
    registry = Registry.default()
    bundles = registry.list()
    if as_json:
        print_json([summary_record(bundle) for bundle in bundles])
    elif bundles:
        click.echo(render(_HEADER, [_row(bundle) for bundle in bundles], right=("SIZE",)))
    else:
        click.echo(f"no models in {registry.root} yet; add one with: setpoint pack PATH", err=True)


def _row(bundle: Bundle) -> tuple[str, ...]:
    return (
        bundle.reference,
        ",".join(bundle.aliases) or "-",
        bundle.manifest.lineage.format,
        format_bytes(bundle.size_bytes),
        bundle.packed_at[:16].replace("T", " "),
        short_digest(bundle.digest),
        signature_text(bundle),
    )
