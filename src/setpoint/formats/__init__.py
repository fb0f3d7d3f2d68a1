"""What is this file, and how does it become a model's files and manifest. One format to a module.

Beyond the built-in ones, any installed distribution may offer a format through the entry points ``setpoint.formats``.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setpoint.core import InvalidConfiguration, Signature, UnknownFormat
from setpoint.engines import offers
from setpoint.formats.base import ENGINES, Format, PackedModel, PackOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENTRY_POINT_GROUP = "setpoint.formats"

BUILT_IN = {
    # In the order asked: a folder with a Python model may hold an ONNX file too, and a pickle says least about itself.
    "composition": "setpoint.formats.composition:CompositionFormat",
    "python": "setpoint.formats.python_class:PythonClassFormat",
    "pipeline": "setpoint.formats.pipeline:PipelineFormat",
    "huggingface": "setpoint.formats.huggingface:HuggingfaceFormat",
    "tensorflow": "setpoint.formats.tensorflow:TensorflowFormat",  # its fingerprint.pb reads like an ONNX graph
    "onnx": "setpoint.formats.onnx:OnnxFormat",
    "ort": "setpoint.formats.ort:OrtFormat",
    "litert": "setpoint.formats.litert:LitertFormat",
    "openvino": "setpoint.formats.openvino:OpenvinoFormat",
    "xgboost": "setpoint.formats.xgboost:XgboostFormat",
    "lightgbm": "setpoint.formats.lightgbm:LightgbmFormat",
    "catboost": "setpoint.formats.catboost:CatboostFormat",
    "torch": "setpoint.formats.torch_program:TorchProgramFormat",
    "torch-module": "setpoint.formats.torch_module:TorchModuleFormat",
    "gguf": "setpoint.formats.refused:GgufFormat",
    "pmml": "setpoint.formats.refused:PmmlFormat",
    "sklearn": "setpoint.formats.sklearn:SklearnFormat",
}

_WITH_A_CHOICE = ("xgboost", "lightgbm", "catboost")
"""Formats that both their own library and ONNX Runtime can serve."""
_log = logging.getLogger("setpoint.formats")


def write_function(function: Callable[..., Any], folder: Path) -> Path:
    """Write an annotated function as a packable source into ``folder``; see ``python_function.write_function``."""
    # Imported here: the serving process imports this room and needs nothing of the user's classes.
    from setpoint.formats.python_function import write_function as write

    return write(function, folder)


def pack_isolated(source: Path, options: PackOptions, workdir: Path, memory: Path | None = None) -> PackedModel:
    """Like ``pack``, in a child process; see ``isolated.pack_isolated``."""
    from setpoint.formats.isolated import pack_isolated as packed  # not needed to serve what is packed

    return packed(source, options, workdir, memory)


def labelled(packed: PackedModel, file: Path) -> PackedModel:
    """The same model, with names for the classes of an output; see ``labels.labelled``."""
    from setpoint.formats.labels import labelled as named

    return named(packed, file)


def read_rows(path: Path, signature: Signature) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays of an ``.npz``: the inputs, fitted, and all others; see ``rows.read_rows``."""
    from setpoint.formats.rows import read_rows as read

    return read(path, signature)


def made_up_rows(artifact: Path, rows: int, length: int | None = None) -> dict[str, Any]:
    """Made-up input on which an ``.onnx`` file runs; see ``rows.made_up_rows``."""
    from setpoint.formats.rows import made_up_rows as make

    return make(artifact, rows, length)


def within_rounding(expected: NDArray[Any], actual: NDArray[Any]) -> bool:
    """Whether arrays differ as 32-bit floats do that were summed in another order; see ``equivalence.compare``."""
    from setpoint.formats.equivalence import TOLERANCES, compare

    return compare(expected, actual, TOLERANCES["FP32"]).within


def set_weights_apart(artifact: Path) -> Path | None:
    """Move large weights of an ``.onnx`` file into a file beside it; see ``onnx_weights.split_file``."""
    from setpoint.formats.onnx_weights import split_file

    return split_file(artifact)


def formats() -> Iterator[Format]:
    """Every format there is, built-in ones first. Cheap: heavy libraries load only when a format packs.

    A format of another distribution that cannot be loaded is told in the log and passed over.
    """
    for place in BUILT_IN.values():
        module, _, name = place.partition(":")
        yield getattr(importlib.import_module(module), name)()
    for offer in offers(ENTRY_POINT_GROUP, ("name", "recognises", "pack")):
        if offer.problem:
            _log.warning("the format %s", offer.problem)
        else:
            yield offer.loaded


def recognise(source: Path) -> Format:
    """The format of ``source``, judged by its content.

    Raises:
        UnknownFormat: there is no such file, or no format says yes; lists the formats.
    """
    if not source.exists():
        raise UnknownFormat(f"there is no file or folder {str(source)!r}")
    asked = []
    for candidate in formats():
        if _recognises(candidate, source):
            return candidate
        asked.append(candidate.name)
    raise UnknownFormat(
        f"{str(source)!r} is of no format that Setpoint reads: {', '.join(asked)}."
        " Wrap it in a Python class (a file that defines a setpoint.Model) to serve anything else"
    )


def _recognises(candidate: Format, source: Path) -> bool:
    try:
        return candidate.recognises(source)
    except Exception as error:
        if type(candidate).__module__.startswith("setpoint."):
            raise  # ours: a bug, to be seen
        _log.warning("the format %r failed to look at %s and is passed over: %s", candidate.name, source, error)
        return False


def pack(source: Path, options: PackOptions, workdir: Path) -> PackedModel:
    """Recognise ``source`` and pack it, in this process. ``pack_isolated`` keeps frameworks out of the caller's.

    Raises:
        ConfigurationError: any leaf of it; the message says what to do.
    """
    found = recognise(source)
    if options.engine and found.name not in _WITH_A_CHOICE:
        raise InvalidConfiguration(
            f"--engine {options.engine} is for {', '.join(_WITH_A_CHOICE)}; this is {found.name}"
        )
    return found.pack(source, options, workdir)


__all__ = [
    "BUILT_IN",
    "ENGINES",
    "ENTRY_POINT_GROUP",
    "Format",
    "PackOptions",
    "PackedModel",
    "formats",
    "labelled",
    "made_up_rows",
    "pack",
    "pack_isolated",
    "read_rows",
    "recognise",
    "set_weights_apart",
    "within_rounding",
    "write_function",
]
