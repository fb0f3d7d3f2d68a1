"""Tables and JSON on stdout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import msgspec


def render(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    """A table with two blanks between columns and no lines; columns named in ``right`` are set to the right."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(row, widths, header, strict=True)
        ).rstrip()
        for row in cells
    )


def print_json(value: Any) -> None:
    """Print a record or a list of records as indented JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))
