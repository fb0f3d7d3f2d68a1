"""``setpoint``: finds the verb, and turns whatever goes wrong into one or two lines and an exit code.

Nothing heavy is imported here: ``setpoint --help`` must not wait for numpy. Verbs import what they need at their top,
and their files are imported when they are called; what ``--help`` says of them stands in ``VERBS``.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from setpoint import __version__

VERBS = {
    "pack": "Make a model file into a bundle in the registry.",
    "serve": "Serve models over HTTP.",
    "config": "Show what is set and why, and describe what can be set.",
    "load": "Send a server traffic and say what it holds.",
    "bench": "Measure a model beside its bare engine.",
    "optimize": "Make and measure variants of a model, and choose.",
    "simulate": "Say whether an objective would be held, in simulated time.",
    "models": "List the models in the registry.",
    "inspect": "Show what a bundle takes, gives, holds and comes from.",
    "alias": "Point an alias at a version.",
    "doctor": "Say what this machine has, and what is missing for which format.",
    "completion": "Print the shell's completion script.",
}
"""Verb → its line in ``--help``: the first line of its own help, which a test compares."""

TRACEBACK_VARIABLE = "SETPOINT_TRACEBACK"
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130  # what shells report for SIGINT


class LazyGroup(click.Group):
    """A group whose commands are modules of this package, imported when called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order a newcomer meets them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module and return its ``command``."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"setpoint.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete verbs without importing them."""
        verbs = [CompletionItem(verb, help=text) for verb, text in VERBS.items() if verb.startswith(incomplete)]
        return verbs + click.Command.shell_complete(self, ctx, incomplete)


def _show_tracebacks(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        os.environ[TRACEBACK_VARIABLE] = "1"  # the environment, so that processes we start know it too


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="setpoint %(version)s")
@click.option("--traceback", is_flag=True, hidden=True, expose_value=False, is_eager=True, callback=_show_tracebacks)
def cli() -> None:
    """Give it a trained model: it becomes a live, measured service.

    \b
      setpoint serve model.onnx         pack it and serve it on http://127.0.0.1:8000
      setpoint pack model.onnx          only pack it; then: setpoint serve model

    Exit codes: 0 done, 1 failed, 2 misuse.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the process's exit code; prints what went wrong to stderr.

    Args:
        arguments: without the program's name; those of the process when not given.
    """
    try:
        result = cli.main(arguments, prog_name="setpoint", standalone_mode=False)
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        # Somebody ran ``setpoint models | head -1``. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except Exception as error:
        from setpoint.cli.failures import report

        return report(error)
    return result if isinstance(result, int) else 0
