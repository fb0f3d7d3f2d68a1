"""``setpoint doctor``: what is here, and what is missing for what."""

from __future__ import annotations

import click

from setpoint.cli.health import (
    BROKEN,
    MISSING,
    OK,
    Check,
    as_record,
    check_engines,
    check_json_reader,
    check_libraries,
    check_machine,
    check_registry,
    check_shared_memory,
    check_versions,
)
from setpoint.cli.table import print_json
from setpoint.machine import read_machine
from setpoint.registry import Registry

_COLOURS = {OK: "green", MISSING: "yellow", BROKEN: "red"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print a record instead of lines.")
def command(as_json: bool) -> int:
    """Say what this machine has, and what is missing for which format.

    Exit code 1 only when something that everything needs is broken.
    """
    machine = read_machine()
    checks = [
        *check_versions(),
        *check_machine(machine),
        *check_shared_memory(),
        *check_libraries(),
        *check_json_reader(),
        *check_engines(),
        *check_registry(Registry.default()),
    ]
    record = as_record(checks, machine)
    if as_json:
        print_json(record)
    else:
        width = max(len(check.about) for check in checks)
        for check in checks:
            click.echo(_line(check, width))
    return 0 if record["ok"] else 1


def _line(check: Check, width: int) -> str:
    status = click.style(f"{check.status:<7}", fg=_COLOURS[check.status])
    line = f"{status}  {check.about:<{width}}  {check.found}"
    return f"{line}\n{'':<{width + 11}}{check.remedy}" if check.remedy else line
