"""``setpoint alias``: a name for a version that moves in one step."""

from __future__ import annotations

import click

from setpoint.cli.describe import short_digest
from setpoint.cli.references import complete_reference
from setpoint.registry import Registry


@click.command("alias")
@click.argument("reference", shell_complete=complete_reference)
@click.argument("alias")
def command(reference: str, alias: str) -> None:
    """Point an alias at a version.

    REFERENCE says which: name:3, name:other-alias or name@sha256:digest. Whoever asks for name:ALIAS gets the old
    version or the new one, never neither.

    \b
      setpoint alias sentiment:3 champion
    """
    registry = Registry.default()
    bundle = registry.resolve(reference)
    registry.set_alias(bundle.name, alias, bundle.version)
    click.echo(f"{bundle.name}:{alias} is {bundle.reference}  {short_digest(bundle.digest)}")
