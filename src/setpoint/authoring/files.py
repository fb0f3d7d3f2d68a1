"""``uses`` and ``file``: class attributes that name files of the bundle.

While the class is only defined they are declarations that packing reads. When a worker loads the model, the engine puts
what they stand for into the instance's ``__dict__``; the descriptors define no ``__set__``, so from then on reading the
attribute is a plain lookup, and a test can assign its own value.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, Self, overload

from numpy.typing import NDArray

from setpoint.core import InvalidConfiguration, ModelError, Signature

Arrays = Mapping[str, NDArray[Any]]


class Runs(Protocol):
    """What runs a model file; every ``engines.Executable`` does."""

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Compute every output."""
        ...


class ModelFile:
    """A model file of the bundle, loaded: call it with one array per input.

    Attributes:
        path: inside the bundle.
        signature: its inputs and outputs.
    """

    __slots__ = ("_executable", "path", "signature")

    def __init__(self, path: str, signature: Signature, executable: Runs) -> None:
        self.path = path
        self.signature = signature
        self._executable = executable

    def __call__(self, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """``run`` for inputs whose names are Python names: ``self.encoder(input_ids=ids, attention_mask=mask)``."""
        return self._executable.run(inputs)

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Compute every output.

        Args:
            inputs: one array per input, of the signature's dtype and shape.

        Raises:
            ModelError: the engine refused the inputs or failed.
        """
        return self._executable.run(inputs)

    def __repr__(self) -> str:
        return f"ModelFile({self.path!r}: {self.signature})"


class _Declaration:
    """A class attribute that stands for a file of the bundle until a worker binds it."""

    def __init__(self, path: str, declared_by: str) -> None:
        self.path = bundle_path(path, declared_by)
        self.attribute = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.attribute = name

    def _not_yet(self, owner: type) -> ModelError:
        return ModelError(
            f"{owner.__name__}.{self.attribute} ({self.path}) is there once a worker has loaded the model: "
            "use it in load() or an endpoint, not in __init__; in a test assign your own"
        )


class Uses(_Declaration):
    """Declaration of a model file; see ``uses``."""

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> ModelFile: ...
    def __get__(self, instance: object | None, owner: type) -> Self | ModelFile:
        if instance is None:
            return self
        raise self._not_yet(owner)


class BundleFile(_Declaration):
    """Declaration of a file or folder; see ``file``."""

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Path: ...
    def __get__(self, instance: object | None, owner: type) -> Self | Path:
        if instance is None:
            return self
        raise self._not_yet(owner)


def uses(path: str) -> Uses:
    """Declare a model file that lies beside the class, such as ``encoder = sp.uses("encoder.onnx")``.

    It is packed into the bundle and run by the engine for its kind with the worker's threads. In the loaded model the
    attribute is a ``ModelFile``: ``self.encoder(input_ids=ids)`` returns a dict of arrays.

    Raises:
        InvalidConfiguration: the path is absolute or leaves the folder.
    """
    return Uses(path, "uses")


def file(path: str) -> BundleFile:
    """Declare a file or folder beside the class that is packed with it, such as ``vocab = sp.file("vocab.txt")``.

    In the loaded model the attribute is a ``pathlib.Path``; the bundle's files are read-only.

    Raises:
        InvalidConfiguration: the path is absolute or leaves the folder.
    """
    return BundleFile(path, "file")


def bundle_path(path: str, declared_by: str) -> str:
    """Normalise a path inside a bundle: relative, ``/`` between parts, no way out.

    Raises:
        InvalidConfiguration: it is not such a path.
    """
    pure = PurePosixPath(path)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or "\\" in path:
        raise InvalidConfiguration(
            f"{declared_by}({path!r}): expected a path inside the class's folder and relative to it, "
            "such as 'encoder.onnx'"
        )
    return str(pure)


def declared_files(model_class: type) -> dict[str, Uses | BundleFile]:
    """Attribute name → declaration, for everything a class and its bases declare; an overriding class wins."""
    found: dict[str, Uses | BundleFile] = {}
    for owner in reversed(model_class.__mro__):
        for name, value in vars(owner).items():
            if isinstance(value, Uses | BundleFile):
                found[name] = value
            else:
                found.pop(name, None)
    return found
