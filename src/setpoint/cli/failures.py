"""What a person is told when something failed: one or two lines with the remedy, and never a traceback unasked."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import traceback

import click

from setpoint import __version__
from setpoint.cli.main import EXIT_FAILED, TRACEBACK_VARIABLE
from setpoint.core import (
    BundleNotFound,
    InternalError,
    InvalidConfiguration,
    SetpointError,
    UnknownFormat,
    UntrustedFile,
)

EXIT_MISUSE = 2
_MISUSE = (InvalidConfiguration, UnknownFormat, UntrustedFile, BundleNotFound)
"""The command itself must be written differently. Other failures are of work that was rightly asked for."""


def exit_code_of(error: Exception) -> int:
    """2 where the command has to be changed, 1 where the work failed."""
    return EXIT_MISUSE if isinstance(error, _MISUSE) else EXIT_FAILED


def report(error: Exception) -> int:
    """Tell the person on stderr and return the exit code."""
    if os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0"):
        traceback.print_exception(error)
        return exit_code_of(error)
    if isinstance(error, SetpointError) and not isinstance(error, InternalError):
        _say(error.message)
    elif isinstance(error, OSError) and error.strerror and error.filename is not None:
        _say(f"{error.filename}: {error.strerror}")  # a disk, a permission: the world's fault, and plain enough
    else:
        summary = str(error).strip().partition("\n")[0]
        _say(f"{type(error).__name__}: {summary}" if summary else type(error).__name__)
        _say(
            f"this is a bug in Setpoint; please report it with the traceback in {_write_traceback(error)}", label="Bug"
        )
    return exit_code_of(error)


def _say(message: str, label: str = "Error") -> None:
    click.echo(f"{click.style(label, fg='red', bold=True)}: {message}", err=True)


def _write_traceback(error: Exception) -> str:
    with tempfile.NamedTemporaryFile("w", prefix="setpoint-bug-", suffix=".txt", delete=False) as file:
        file.write(f"setpoint {__version__}, Python {platform.python_version()}, {platform.platform()}\n")
        file.write(f"arguments {sys.argv[1:]}\n\n")
        traceback.print_exception(error, file=file)
        return file.name
