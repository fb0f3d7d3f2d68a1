"""Write docs/cli.md from what the commands say of themselves: python scripts/cli_reference.py docs/cli.md."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from setpoint.cli.main import VERBS, cli

WIDTH = 100
_INTRODUCTION = """\
# The command line

Made from `--help` by `make docs`; a test compares. Exit codes: 0 done, 1 failed, 2 misuse, 130 interrupted.
`SETPOINT_HOME` says where the registry is (`~/.local/share/setpoint` without it); `SETPOINT_TRACEBACK=1` shows
tracebacks.
"""


def reference() -> str:
    """The whole page."""
    return "\n".join([_INTRODUCTION, *_sections()])


def _sections() -> Iterator[str]:
    settings = {**cli.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(cli, info_name="setpoint", **settings)
    yield _section("setpoint", cli.get_help(context))
    for verb in VERBS:
        command = cli.get_command(context, verb)
        if command is None:
            raise RuntimeError(f"{verb} is listed and cannot be called")
        inner = click.Context(command, info_name=verb, parent=context, **settings)
        yield _section(f"setpoint {verb}", command.get_help(inner))
        for name, part in getattr(command, "commands", {}).items():
            within = click.Context(part, info_name=name, parent=inner, **settings)
            yield _section(f"setpoint {verb} {name}", part.get_help(within))


def _section(title: str, text: str) -> str:
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return f"## {title}\n\n```\n{lines}\n```\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
