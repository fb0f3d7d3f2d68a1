"""Import a user's module from a folder, under a name of its own and with its siblings importable.

The folder stands first on ``sys.path`` until ``close``, because models import siblings as late as inside an endpoint.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import logging
import sys
import traceback
from pathlib import Path
from types import ModuleType

from setpoint.authoring.model import Model, has_endpoints
from setpoint.authoring.requirements import differences, read_requirements
from setpoint.core import ConfigurationError, InvalidConfiguration, ModelError, SetpointError

_log = logging.getLogger("setpoint.engines.python")
_open_folders: list[Path] = []
_MESSAGE_CHARACTERS = 300


class UserModule:
    """An imported module of the user's.

    Args:
        path: the ``.py`` file.

    Raises:
        ConfigurationError: it imports what is not installed; the message says what to install.
        ModelError: its code failed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.folder = self.path.parent
        place = hashlib.sha256(str(self.path).encode()).hexdigest()[:8]
        self._name = f"setpoint_model_{self.path.stem}_{place}"
        self._enter()
        try:
            self.module = self._import()
        except BaseException:
            self.close()
            raise

    def model_classes(self) -> dict[str, type[Model]]:
        """The models this module defines (not those it imports), by class name."""
        return {
            name: value
            for name, value in vars(self.module).items()
            if inspect.isclass(value)
            and issubclass(value, Model)
            and value.__module__ == self._name
            and has_endpoints(value)
        }

    def model_class(self, entry: str) -> type[Model]:
        """The model of that name.

        Raises:
            InvalidConfiguration: there is none; says which there are.
        """
        classes = self.model_classes()
        if entry not in classes:
            known = ", ".join(classes) or "none"
            raise InvalidConfiguration(f"{self.path.name} defines no model {entry!r}; its models: {known}")
        return classes[entry]

    def close(self) -> None:
        """Take the module, its siblings and its folder away again. What holds references to them keeps working."""
        if self.folder in _open_folders:
            _open_folders.remove(self.folder)
            sys.path.remove(str(self.folder))
        sys.modules.pop(self._name, None)
        if self.folder not in _open_folders:
            _forget_modules_of(self.folder)

    def _enter(self) -> None:
        for other in _open_folders:  # two bundles in one process may each have a utils.py
            if other != self.folder:
                _forget_modules_of(other, {entry.stem for entry in self.folder.iterdir()})
        _open_folders.append(self.folder)
        sys.path.insert(0, str(self.folder))
        importlib.invalidate_caches()

    def _import(self) -> ModuleType:
        spec = importlib.util.spec_from_file_location(self._name, self.path)
        if spec is None or spec.loader is None:
            raise InvalidConfiguration(f"{self.path.name}: expected a Python file whose name ends in .py")
        for sentence in differences(read_requirements(self.folder)):
            _log.warning("%s: %s", self.path.name, sentence)
        module = importlib.util.module_from_spec(spec)
        sys.modules[self._name] = module  # dataclasses and typing.get_type_hints look their module up there
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            raise user_failure(error, self.folder, f"importing {self.path.name}") from error
        return module


def user_failure(error: BaseException, folder: Path, doing: str) -> SetpointError:
    """The error to report when the user's code failed outside of a request; the traceback goes to the log.

    Args:
        error: what it raised.
        folder: of the user's files.
        doing: what was going on, such as ``importing embedder.py``.

    Returns:
        ``error`` itself where it is ours; a ConfigurationError where a library is missing; else a ModelError.
    """
    if isinstance(error, SetpointError):
        return error
    if isinstance(error, ModuleNotFoundError) and error.name:
        return ConfigurationError(f"{doing}: {_missing(error.name, folder)}")
    _log.error("%s failed", doing, exc_info=error)
    return ModelError(f"{doing} failed{_where(error, folder)}: {brief(error)}")


def brief(error: BaseException) -> str:
    """Type and message of an error in one short line."""
    message = " ".join(str(error).split())[:_MESSAGE_CHARACTERS]
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _missing(name: str, folder: Path) -> str:
    top = name.partition(".")[0]
    for requirement in read_requirements(folder):
        if top in requirement.modules:
            return (
                f"module {name!r} is not installed here; it was packed with {requirement}: pip install '{requirement}'"
            )
    return f"module {name!r} is not installed here: pip install the distribution that provides it (often {top!r})"


def _where(error: BaseException, folder: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {Path(error.filename).name}:{error.lineno}"
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(folder)
    ]
    return f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def _forget_modules_of(folder: Path, names: set[str] | None = None) -> None:
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(folder) and (names is None or name.partition(".")[0] in names):
            del sys.modules[name]
