"""The interface of a format: recognise a source by its content and turn it into a model's files and manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec

from setpoint.core import InvalidConfiguration, ModelManifest

NATIVE, ONNX = "native", "onnx"
ENGINES = (NATIVE, ONNX)


class PackOptions(msgspec.Struct, frozen=True):
    """What the user says about a source beside its path.

    Attributes:
        trust: the source may run code when it is loaded (pickle, joblib).
        entry: which class of a Python file is the model; empty when there is only one.
        sample: an ``.npz`` (one array per input) of real rows to probe and check with; generated input is used without.
        engine: of boosted trees, what answers: ``native``, their own library, or ``onnx``; the quicker one without.
        labels: names of the classes of its output, one on each line; see ``labelled``.
    """

    trust: bool = False
    entry: str = ""
    sample: Path | None = None
    engine: str = ""
    labels: Path | None = None

    def __post_init__(self) -> None:
        if self.engine not in ("", *ENGINES):
            raise InvalidConfiguration(f"engine {self.engine!r}: expected {' or '.join(ENGINES)}")


class PackedModel(msgspec.Struct, frozen=True):
    """A model made ready for the registry.

    Attributes:
        manifest: describes it; holds no name and no time.
        files: path inside the bundle → local file with its bytes. The registry copies them.
        suggested_name: taken from the source, for when the user gives no name.
    """

    manifest: ModelManifest
    files: dict[str, Path]
    suggested_name: str


class Format(Protocol):
    """One kind of source. Implementations live one to a file and are found by ``setpoint.formats`` entry points."""

    name: str

    def recognises(self, source: Path) -> bool:
        """Whether ``source`` (a file or a folder) is of this format, judged by content; cheap, and runs none of it."""
        ...

    def pack(self, source: Path, options: PackOptions, workdir: Path) -> PackedModel:
        """Read, convert where needed, check, and describe ``source``.

        Args:
            source: file or folder that ``recognises`` said yes to.
            options: what the user added.
            workdir: an empty folder for files that are made; lives until the registry has copied them.

        Raises:
            ConfigurationError: any leaf of it; the message says what to do.
        """
        ...
