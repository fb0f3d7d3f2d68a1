"""The options that say how a path is packed; ``pack`` and ``serve`` take the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from setpoint.engines import CPU
from setpoint.formats import ENGINES

Function = Callable[..., Any]


device_option = click.option(
    "--device",
    default=CPU,
    show_default=True,
    envvar="SETPOINT_MODEL_DEVICE",
    help="Measure on it: cuda, tensorrt, coreml, directml, gpu, npu …",
)


def packing_options(function: Function) -> Function:
    """Add ``--name``, ``--trust``, ``--sample`` and ``--engine`` to a command."""
    for option in (
        click.option(
            "--engine",
            type=click.Choice(ENGINES),
            help="What answers for boosted trees: their own library or ONNX Runtime.  [default: the quicker one]",
        ),
        click.option(
            "--sample",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Real input to try and check the model with: an .npz with one array per input, rows first.",
        ),
        click.option(
            "--trust",
            is_flag=True,
            help="The file may run code when it is loaded (pickle, joblib). Only for files of people you trust.",
        ),
        click.option("--name", help="What to call the model; taken from the file's name without."),
    ):
        function = option(function)
    return function
