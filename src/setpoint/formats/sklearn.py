"""scikit-learn estimators and pipelines: loaded with care, converted to ONNX, and checked against themselves.

A skops file says which types it would make, so one that makes only known ones is loaded as it is. A pickle (joblib
files are pickles) can run any code the moment it is read, so none of it is read before the user has said to trust it.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import importlib.metadata
import json
import lzma
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from setpoint.core import DATATYPES, InvalidConfiguration, Lineage, MissingExtra, UntrustedFile
from setpoint.engines import one_line
from setpoint.formats.base import PackedModel, PackOptions
from setpoint.formats.forest import OPSETS
from setpoint.formats.inputs import load_npz
from setpoint.formats.onnx import drop_zip_maps, precision_of
from setpoint.formats.peek import first_bytes
from setpoint.formats.probe import probe
from setpoint.formats.sklearn_check import check_conversion
from setpoint.formats.sklearn_columns import takes_named_columns
from setpoint.formats.sklearn_repairs import prepare, repaired_converters
from setpoint.formats.sklearn_rows import made_up_rows
from setpoint.formats.sklearn_table import pack_table
from setpoint.formats.tensor_model import ARTIFACT, source_digest, tensor_manifest

if TYPE_CHECKING:
    import onnx

INPUT = "X"
_REMEDY = "to serve it as it is, wrap it in a Python class (a file that defines a setpoint.Model)"
_SAMPLE_ROWS_LIMIT = 2000
_SCHEMA_BYTES_LIMIT = 64 << 20
_PEEK_BYTES = 2
_HARMLESS = frozenset({"numpy.dtype"})  # skops asks about it for every encoder that was fitted with words
_SUFFIXES = frozenset({".joblib", ".pkl", ".pickle", ".skops", ".gz", ".z", ".bz2", ".xz", ".lzma"})
_PICKLE_PROTOCOLS = range(2, 6)
_OPENERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZ": bz2.open,
    b"\xfd7": lzma.open,
    b"\x5d\x00": lzma.open,
}
_ZLIB = 0x78


class SklearnFormat:
    """skops files, and pickles and joblib files, compressed or not."""

    name = "sklearn"

    def recognises(self, source: Path) -> bool:
        """Whether it is a skops archive or a pickle; unpickles nothing."""
        return source.is_file() and (is_skops(source) or is_pickle(source))

    def pack(self, source: Path, options: PackOptions, workdir: Path) -> PackedModel:
        """Convert to ONNX and prove the conversion on real or made-up rows.

        Raises:
            UntrustedFile: it can run code, or makes unknown types, and was not trusted.
            MissingExtra: scikit-learn, skops or skl2onnx is not installed.
            InvalidConfiguration: not an estimator, not fitted, or nothing runs through it.
            ConversionMismatch: the conversion answers differently; says by how much.
        """
        estimator, warned = _load(source, options.trust)
        title = type(estimator).__name__
        if takes_named_columns(estimator):
            trusted = _unknown_types(source) if is_skops(source) else ()
            suffix = ".skops" if is_skops(source) else ".pkl"
            return pack_table(estimator, source, trusted, suffix, warned, workdir, _stem(source))
        columns = _column_count(estimator, source)
        model = _convert(estimator, columns, title)
        artifact = workdir / ARTIFACT
        artifact.write_bytes(model.SerializeToString(deterministic=True))
        rows, origin = _rows(estimator, columns, options.sample)
        checked = check_conversion(estimator, artifact, INPUT, rows, f"the {title}'s ONNX conversion", origin)
        found = probe(artifact, rows={INPUT: rows}, origin=origin)
        lineage = Lineage(
            format=self.name,
            source_digest=source_digest(source),
            tools={name: importlib.metadata.version(name) for name in ("onnxruntime", "scikit-learn", "skl2onnx")},
            checks=(*warned, *checked, *found.checks),
        )
        manifest = tensor_manifest(found.signature, precision_of(model), lineage)
        return PackedModel(manifest, {ARTIFACT: artifact}, _stem(source))


def is_skops(path: Path) -> bool:
    """Whether a file is a zip archive with a skops schema."""
    try:
        with zipfile.ZipFile(path) as archive:
            schema = archive.getinfo("schema.json")
            return schema.file_size <= _SCHEMA_BYTES_LIMIT and "__loader__" in json.loads(archive.read(schema))
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile, NotImplementedError):
        return False


def is_pickle(path: Path) -> bool:
    """Whether a file's first bytes, after decompression, are those of a pickle of protocol 2 or later."""
    try:
        first = _unpacked(path)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
        return False
    return len(first) == _PEEK_BYTES and first[0] == 0x80 and first[1] in _PICKLE_PROTOCOLS


def _unpacked(path: Path) -> bytes:
    stored = first_bytes(path)
    first = stored[:_PEEK_BYTES]
    if first[:1] == bytes([_ZLIB]):
        return zlib.decompressobj().decompress(stored, _PEEK_BYTES)
    if first in _OPENERS:
        with _OPENERS[first](path) as file:
            return bytes(file.read(_PEEK_BYTES))
    return first


def _load(source: Path, trust: bool) -> tuple[Any, tuple[str, ...]]:
    """The estimator, and what was said while it was loaded. Asks for trust before anything of a pickle is read."""
    is_archive = is_skops(source)
    if not is_archive and not trust:
        raise UntrustedFile(
            f"{source} is a pickle, which can run any code when it is loaded. Add --trust if you know where it comes"
            " from, or save the estimator with skops (skops.io.dump), which cannot"
        )
    try:
        import sklearn.base
        import skops.io
    except ImportError as error:
        library = "skops" if "skops" in str(error) else "scikit-learn"
        raise MissingExtra(library, "sklearn", f"packing {source.name}") from error
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator = _load_skops(source, trust, skops.io) if is_archive else _load_pickle(source)
    if not isinstance(estimator, sklearn.base.BaseEstimator):
        raise InvalidConfiguration(
            f"{source} holds a {type(estimator).__module__}.{type(estimator).__name__},"
            f" expected a scikit-learn estimator or pipeline; {_REMEDY}"
        )
    return estimator, _versions(caught)


def _unknown_types(source: Path) -> tuple[str, ...]:
    import skops.io

    return tuple(sorted(skops.io.get_untrusted_types(file=source)))


def _load_skops(source: Path, trust: bool, skops_io: Any) -> Any:
    unknown = list(_unknown_types(source))
    if (doubtful := [name for name in unknown if name not in _HARMLESS]) and not trust:
        raise UntrustedFile(
            f"{source} makes objects of types that skops does not know to be harmless: {', '.join(doubtful)}."
            " Add --trust if you know where the file comes from"
        )
    try:
        return skops_io.load(source, trusted=unknown)
    except Exception as error:
        raise InvalidConfiguration(f"{source} cannot be loaded: {one_line(error)}") from error


def _load_pickle(source: Path) -> Any:
    import joblib

    try:
        return joblib.load(source)
    except ModuleNotFoundError as error:
        raise InvalidConfiguration(f"{source} needs the module {error.name}, which is not installed here") from error
    except Exception as error:  # unpickling runs the file's own code, which may raise anything
        raise InvalidConfiguration(f"{source} cannot be loaded: {one_line(error)}") from error


def _versions(caught: Iterable[warnings.WarningMessage]) -> tuple[str, ...]:
    """Which other scikit-learn version the file was saved with, if it says so."""
    here = importlib.metadata.version("scikit-learn")
    made = {getattr(entry.message, "original_sklearn_version", None) for entry in caught}
    return tuple(f"saved by scikit-learn {version}, loaded by {here}" for version in sorted(filter(None, made)))


def _column_count(estimator: Any, source: Path) -> int:
    count = getattr(estimator, "n_features_in_", None)
    if isinstance(count, int | np.integer):
        return int(count)
    title = type(estimator).__name__
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise InvalidConfiguration(f"{source}: the {title} is not fitted; call fit() before saving it") from None
    except TypeError:  # no estimator with fit() at all
        pass
    raise InvalidConfiguration(f"{source}: the {title} takes no table of numbers (text, labels?); {_REMEDY}")


def _convert(estimator: Any, columns: int, title: str) -> onnx.ModelProto:
    """The estimator as an ONNX graph over one float32 table, no maps among its outputs.

    Raises:
        InvalidConfiguration: there is no converter, or it fails.
    """
    try:
        import skl2onnx
        from skl2onnx.common.data_types import FloatTensorType
        from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator
    except ImportError as error:
        raise MissingExtra("skl2onnx", "sklearn", f"converting a {title}") from error

    prepared = prepare(estimator)
    convert = functools.partial(
        skl2onnx.convert_sklearn,
        prepared,
        name=title,  # the library's own would be random, and equal models must give equal bytes
        initial_types=[(INPUT, FloatTensorType([None, columns]))],
        target_opset=OPSETS,
        custom_conversion_functions=repaired_converters(),
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what one library thinks of another's attributes is not the user's affair
            try:
                model = convert(options={id(prepared): {"zipmap": False}})
            except NameError:  # how the library says that this estimator knows no such option
                model = convert()
    except (MissingConverter, MissingShapeCalculator) as error:
        named = re.search(r"type '?<class '([\w.]+)'>", str(error))
        raise InvalidConfiguration(
            f"{named[1].rpartition('.')[2] if named else title} has no ONNX converter; {_REMEDY}"
        ) from error
    except Exception as error:  # converters raise whatever they meet
        raise InvalidConfiguration(f"{title} cannot be converted to ONNX ({one_line(error)}); {_REMEDY}") from error
    drop_zip_maps(model)
    for output in model.graph.output:
        if not output.type.HasField("tensor_type"):
            raise InvalidConfiguration(f"{title} gives {output.name!r} as a list of tensors when converted; {_REMEDY}")
    return model


def _rows(estimator: Any, columns: int, sample: Path | None) -> tuple[NDArray[np.float32], str]:
    """What to check with: float32, because that is what the served model takes. And where it is from."""
    if sample is None:
        return made_up_rows(estimator, columns), "made-up rows"
    arrays = load_npz(sample)
    if len(arrays) != 1:
        raise InvalidConfiguration(f"sample {sample} holds {len(arrays)} arrays, expected one: the table of rows")
    (array,) = arrays.values()
    if array.ndim != 2 or array.shape[1] != columns or not len(array) or array.dtype.kind not in "biuf":
        raise InvalidConfiguration(
            f"sample {sample}: expected numbers of shape [rows, {columns}], got {array.dtype}{list(array.shape)}"
        )
    return array[:_SAMPLE_ROWS_LIMIT].astype(DATATYPES["FP32"].dtype), f"rows of {sample.name}"


def _stem(source: Path) -> str:
    path = source.resolve()
    while path.suffix.lower() in _SUFFIXES:
        path = path.with_suffix("")
    return path.name
