"""``setpoint config``: what can be set, and what holds here and why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from setpoint.cli.config_file import Given
from setpoint.cli.config_keys import LIMITS, MODELS, NODE, keys_of
from setpoint.cli.config_options import flags_given
from setpoint.cli.config_schema import schema
from setpoint.cli.config_settings import DEFAULT, Settings, resolve
from setpoint.cli.config_values import shown_value
from setpoint.cli.many import folders_expanded
from setpoint.cli.serve import serving_options
from setpoint.cli.table import print_json, render


class Row(msgspec.Struct, frozen=True):
    """One value that holds.

    Attributes:
        key: its full name.
        value: as it would be written.
        origin: file and line, variable, flag, or ``default``.
    """

    key: str
    value: str
    origin: str


@click.group("config")
def command() -> None:
    """Show what is set and why, and describe what can be set.

    Settings come from flags, the environment, setpoint.toml and defaults; the earlier one counts.
    """


@command.command("show")
@serving_options
@click.option("--set", "only_set", is_flag=True, help="Without what has its default.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of records instead of a table.")
@click.pass_context
def show(
    context: click.Context, /, models: tuple[str, ...], config: Path | None, only_set: bool, as_json: bool, **_: Any
) -> None:
    """Print every value that setpoint serve would take here, and where it comes from.

    It takes the arguments of setpoint serve, a folder of models among them, and checks all that can be checked without
    opening a model. Exit code 2 where serve would refuse them.

    \b
      setpoint config show
      setpoint config show --config /etc/setpoint.toml --workers 2
    """
    settings = resolve(flags_given(context), folders_expanded(models), os.environ, config)
    settings.node_fields()
    for index in range(len(settings.models)):
        settings.model_fields(index)
    rows = [row for row in _rows(settings) if not only_set or row.origin != DEFAULT]
    if as_json:
        print_json(rows)
    else:
        click.echo(render(("key", "value", "from"), [(row.key, row.value or "-", row.origin) for row in rows]))


@command.command("schema")
def show_schema() -> None:
    """Print the JSON Schema of setpoint.toml, for editors and checkers."""
    print_json(schema())


def _rows(settings: Settings) -> Iterator[Row]:
    yield from _section(NODE, NODE, settings.node)
    yield from _section(LIMITS, LIMITS, settings.limits)
    for index, model in enumerate(settings.models):
        yield from _section(MODELS, f"{MODELS}[{index}]", model)


def _section(section: str, label: str, values: dict[str, Given]) -> Iterator[Row]:
    said = {name.rpartition(".")[0] for name, given in values.items() if given.origin != DEFAULT}
    absent = set()
    for name, key in keys_of(section).items():
        if key.within and key.within not in said:
            if key.within not in absent:
                absent.add(key.within)
                yield Row(f"{label}.{key.within}", "", DEFAULT)
            continue
        given = values[name]
        yield Row(f"{label}.{name}", shown_value(key, given.value), given.origin)
