"""A function given in place of a path becomes a folder that packs like any Python class: a pickle and a module."""

from __future__ import annotations

import dataclasses
import io
import pickletools
import sys
import sysconfig
import typing
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import msgspec

from setpoint.authoring import contracts, model_from_function
from setpoint.core import InvalidConfiguration
from setpoint.formats.python_struct import described_struct, make_struct

PICKLE_FILE = "function.pkl"
_MSGSPEC_CACHE = "__msgspec_cache__"
_MODULE = '''"""The function {name!r}, as it was given to Setpoint."""

from pathlib import Path

import cloudpickle
import setpoint as sp

_function = cloudpickle.loads((Path(__file__).parent / "{pickle}").read_bytes())


class {class_name}(sp.model_from_function(_function)):
    """{class_name}."""
'''


def write_function(function: Callable[..., Any], folder: Path) -> Path:
    """Write an annotated function as a packable source into ``folder``.

    The function travels by value, and with it whatever it uses of its own module (a notebook, a script, a test); what
    it imports from elsewhere is imported again where it runs.

    Returns:
        ``folder``.

    Raises:
        InvalidConfiguration: not a function, its annotations do not describe an endpoint, or it cannot be pickled.
    """
    model_class = model_from_function(function)
    contracts(model_class)
    module = sys.modules.get(function.__module__)
    try:
        pickled = _pickled(_with_resolved_annotations(function), module)
    except Exception as error:  # whatever the function refers to runs its own pickling code
        raise InvalidConfiguration(
            f"function {function.__name__!r} cannot be pickled ({type(error).__name__}: {error}); "
            "put it into a file as a setpoint.Model and serve that"
        ) from error
    (folder / PICKLE_FILE).write_bytes(pickled)
    text = _MODULE.format(name=function.__name__, pickle=PICKLE_FILE, class_name=model_class.__name__)
    (folder / "model.py").write_text(text, encoding="utf-8")
    return folder


def _with_resolved_annotations(function: Callable[..., Any]) -> Callable[..., Any]:
    """A copy whose annotations are objects and not text.

    With ``from __future__ import annotations`` they are text, and what only the text mentions does not travel with the
    function.
    """
    assert isinstance(function, FunctionType), "model_from_function takes nothing else"
    copy = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__dict__.update(function.__dict__)
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__doc__, copy.__module__, copy.__qualname__ = function.__doc__, function.__module__, function.__qualname__
    copy.__annotations__ = typing.get_type_hints(function, include_extras=True)
    return copy


def modules_in_pickle(folder: Path) -> frozenset[str]:
    """Top-level names of the modules that a folder's pickled function refers to; empty where it has none.

    A pickle names modules in plain strings, so a string that happens to equal an imported module's name is counted too.
    """
    path = folder / PICKLE_FILE
    if not path.is_file():
        return frozenset()
    strings = {argument for _, argument, _ in pickletools.genops(path.read_bytes()) if isinstance(argument, str)}
    names = {string.partition(".")[0] for string in strings if string.replace(".", "").replace("_", "").isalnum()}
    return frozenset(name for name in names if name in sys.modules)


def _pickled(function: Callable[..., Any], module: ModuleType | None) -> bytes:
    import cloudpickle

    by_value = module is not None and module.__name__ != "__main__" and not _is_installed(module)
    own_modules = {"__main__", module.__name__ if module is not None and by_value else "__main__"}

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # the library is untyped
        def reducer_override(self, value: Any) -> Any:
            if value is dataclasses.MISSING:  # compared by identity; cloudpickle would copy it
                return "MISSING"
            if isinstance(value, type) and _MSGSPEC_CACHE in vars(value):
                delattr(value, _MSGSPEC_CACHE)  # cannot be pickled; msgspec makes it again
            if isinstance(value, type(msgspec.Struct)) and value.__module__ in own_modules:
                return make_struct, described_struct(value)  # cloudpickle would lose its fields
            return super().reducer_override(value)

    if by_value:
        cloudpickle.register_pickle_by_value(module)
    try:
        buffer = io.BytesIO()
        Pickler(buffer).dump(function)
        return buffer.getvalue()
    finally:
        if by_value:
            cloudpickle.unregister_pickle_by_value(module)


def _is_installed(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if file is None:
        return True  # built in
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(Path(file).is_relative_to(place) for place in places)
