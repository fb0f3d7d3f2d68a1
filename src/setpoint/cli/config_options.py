"""Command-line options that are settings: type and default are the setting's, only the words are the option's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click
from click.core import ParameterSource

from setpoint.cli.config_file import FILE_NAME, Given
from setpoint.cli.config_keys import REQUIRED, Key, key_named
from setpoint.cli.config_values import shown_value
from setpoint.cli.objective_text import ObjectiveText
from setpoint.cli.units import ByteSize, Duration
from setpoint.core import Objective

Function = Callable[..., Any]


def setting(flag: str, path: str = "", *, help: str, **options: Any) -> Callable[[Function], Function]:
    """An option of ``serve`` that sets a setting.

    Args:
        flag: such as ``--max-body``.
        path: of the setting, such as ``limits.body_limit_bytes``; where the flag is called as the setting, nothing.
        help: for ``--help``; the default is added.
        options: of click, where the type of the setting does not say enough.
    """
    key = key_named(path or flag.removeprefix("--").replace("-", "_"))
    text = shown_value(key, key.default) if key.default is not REQUIRED else ""
    if "default" not in help and text and text != "false":
        help = f"{help}  [default: {text}]"
    if key.kind is bool and "/" not in flag:
        options = {"is_flag": True, "flag_value": True, **options}
    elif "type" not in options:
        options["type"] = _type_of(key)
    # No default: a flag that was not said leaves the word to the environment, the file and the record.
    return click.option(flag, key.path.replace(".", "__"), default=None, help=help, **options)


def _type_of(key: Key) -> Any:
    if key.unit:
        return ByteSize() if key.unit == "bytes" else Duration()
    choices = (key.kind, *get_args(key.kind))
    if Objective in choices:
        return ObjectiveText()
    if Path in choices:
        return click.Path(path_type=Path)
    if key.kind in (int, int | None):
        return click.IntRange(0, 65535) if key.name.endswith("port") else click.IntRange(0 if key.default == 0 else 1)
    return click.FLOAT if key.kind in (float, float | None) else click.STRING


def flags_given(context: click.Context) -> dict[str, Given]:
    """What was said on the command line, by the setting's path.

    An option that is called as a setting sets it, however it was made.
    """
    found: dict[str, Given] = {}
    for parameter in context.command.params:
        name = str(parameter.name)
        if isinstance(parameter, click.Option) and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            key = _key_of(name)
            if key is not None:
                found[key.path] = Given(context.params[name], parameter.opts[0])
    return found


def _key_of(parameter: str) -> Key | None:
    try:
        return key_named(parameter.replace("__", "."))
    except KeyError:
        return None


config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Settings and models, as setpoint config schema describes them.  [default without models: ./{FILE_NAME}]",
)
