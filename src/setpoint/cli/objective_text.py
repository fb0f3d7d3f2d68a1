"""An objective on the command line."""

from __future__ import annotations

from typing import Any

import click

from setpoint.core import InvalidConfiguration, Objective


class ObjectiveText(click.ParamType[Objective]):
    """An objective such as ``p99<=20ms``."""

    name = "objective"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Objective:
        """Read it, or fail as misuse."""
        try:
            return value if isinstance(value, Objective) else Objective.parse(value)
        except InvalidConfiguration as error:
            self.fail(error.message, param, ctx)
