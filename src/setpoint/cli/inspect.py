"""``setpoint inspect``: one bundle in full."""

from __future__ import annotations

import click
import msgspec

from setpoint.cli.describe import full_record, page
from setpoint.cli.example import calls
from setpoint.cli.references import complete_reference
from setpoint.cli.table import print_json
from setpoint.registry import Registry


@click.command("inspect")
@click.argument("reference", shell_complete=complete_reference)
@click.option("--json", "as_json", is_flag=True, help="Print a record instead of a page.")
@click.option(
    "--example", "endpoint", metavar="ENDPOINT", help="Print only a request body that this endpoint accepts, as JSON."
)
@click.option("--verify", is_flag=True, help="Also read every file and compare it with its digest.")
def command(reference: str, as_json: bool, endpoint: str | None, verify: bool) -> None:
    """Show what a bundle takes, gives, holds and comes from.

    REFERENCE is a name (its newest version), name:3, name:alias or name@sha256:digest.
    """
    registry = Registry.default()
    bundle = registry.resolve(reference)
    if verify:
        registry.verify(bundle)
    if endpoint is not None:
        bodies = {call.endpoint: call.body for call in calls(bundle.name, bundle.manifest)}
        if endpoint not in bodies:
            raise click.UsageError(
                f"{bundle.reference} has no endpoint {endpoint!r}; expected one of: {', '.join(bodies)}"
            )
        click.echo(msgspec.json.encode(bodies[endpoint]))
    elif as_json:
        print_json(full_record(bundle))
    else:
        click.echo(page(bundle))
        if verify:
            click.echo("\nverified: every file has the bytes that its digest names")
