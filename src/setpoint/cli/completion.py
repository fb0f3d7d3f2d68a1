"""``setpoint completion``: the script that makes TAB complete verbs, options and model names."""

from __future__ import annotations

import os

import click
from click.shell_completion import get_completion_class

from setpoint.cli.main import cli

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS), required=False)
def command(shell: str | None) -> None:
    """Print the shell's completion script.

    Without SHELL, the script of the shell you are in.

    \b
      bash   setpoint completion bash >> ~/.bashrc
      zsh    setpoint completion zsh >> ~/.zshrc
      fish   setpoint completion fish > ~/.config/fish/completions/setpoint.fish
    """
    shell = shell or os.path.basename(os.environ.get("SHELL", ""))
    script_class = get_completion_class(shell) if shell in SHELLS else None
    if script_class is None:
        raise click.UsageError(f"cannot tell which shell you are in; say one of: {', '.join(SHELLS)}")
    click.echo(script_class(cli, {}, "setpoint", "_SETPOINT_COMPLETE").source())
