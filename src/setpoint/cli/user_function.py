"""A function of the user's, named on the command line as ``FILE.py:FUNCTION``."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from setpoint.core import InvalidConfiguration


def load_function(place: str) -> Callable[..., Any]:
    """Run the file and return the function.

    Raises:
        InvalidConfiguration: there is no such file, it fails, or it has no such function.
    """
    path, _, name = place.rpartition(":")
    if not Path(path).is_file():
        raise InvalidConfiguration(f"{place!r}: there is no file {path!r}; expected FILE.py:FUNCTION")
    specification = importlib.util.spec_from_file_location("setpoint_user_function", path)
    if specification is None or specification.loader is None:
        raise InvalidConfiguration(f"{path!r} is no Python file")
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except Exception as error:  # the user's file, which may fail in any way it likes
        raise InvalidConfiguration(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise InvalidConfiguration(f"{path} has no function {name!r}")
    found: Callable[..., Any] = function
    return found
