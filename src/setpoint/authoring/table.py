"""``TableModel``: a model of named columns of different kinds, asked by records or by columns, missing values included.

What packing a scikit-learn pipeline of mixed columns makes is a class of two lines derived from this one, beside a
``table.json`` that says which columns there are. The model itself is an ONNX graph where that is proven equal, else the
fitted pipeline, loaded with skops by the worker.
"""

from __future__ import annotations

import inspect
import keyword
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.authoring.files import ModelFile
from setpoint.authoring.invalid_input import InvalidInput
from setpoint.authoring.model import Context, Model, endpoint
from setpoint.authoring.module import brief
from setpoint.authoring.tensor import Tensor
from setpoint.core import InvalidConfiguration, MissingExtra, ModelError

BATCH_ROWS = 256
"""A data frame costs its milliseconds whether it has one row or hundreds."""
_MISSING_WORD = b"\x00missing"  # of no category, which is what many encoders take a missing word for
_UNKNOWN_CATEGORY = "Unknown Category"  # how ONNX Runtime's encoder says it
KINDS: dict[str, Any] = {"number": float, "integer": int, "text": str, "boolean": bool}


class TableColumn(msgspec.Struct, frozen=True):
    """One column.

    Attributes:
        name: as the pipeline was fitted with it.
        kind: ``number``, ``integer``, ``text`` or ``boolean``.
    """

    name: str
    kind: str


class TableShape(msgspec.Struct, frozen=True):
    """What a table model takes and gives; ``table.json`` in its bundle.

    Attributes:
        columns: in the pipeline's order.
        labels: of a classifier's classes, in the order of its probabilities; empty for anything else.
        label_kind: of a classifier's labels, as a column's kind.
        probabilities: whether a classifier gives them.
        width: of anything else, numbers per row; 0 for one number without an axis of its own.
        method: of the pipeline: ``predict`` or ``transform``.
        trusted: types in a skops file that the user said to trust.
        label_by_score: the label is that of the best probability, so the pipeline need not be run for it again.
        missing_words: a graph takes a word that stands for a missing one, and answers as the pipeline does.
    """

    columns: tuple[TableColumn, ...]
    labels: tuple[Any, ...] = ()
    label_kind: str = "integer"
    probabilities: bool = False
    width: int = 0
    method: str = "predict"
    trusted: tuple[str, ...] = ()
    label_by_score: bool = False
    missing_words: bool = False


class TableModel(Model):
    """A model of named columns. Subclasses say where its shape stands, and which file is the model.

    ``class Table(sp.TableModel, shape="table.json"): model = sp.file("model.skops")``
    """

    shape: TableShape
    model: Any = None

    def __init_subclass__(cls, *, shape: str, **settings: Any) -> None:
        """Read the shape and define the endpoints ``predict`` (records) and ``columns``."""
        super().__init_subclass__(**settings)
        beside = Path(sys.modules[cls.__module__].__file__ or "")
        try:
            cls.shape = msgspec.json.decode((beside.parent / shape).read_bytes(), type=TableShape)
        except (OSError, msgspec.MsgspecError) as error:
            raise InvalidConfiguration(f"{cls.__name__}: {shape} cannot be read: {error}") from error
        record, answer = _record_type(cls.shape), _answer_type(cls.shape)
        cls.predict = _by_records(record, answer)  # type: ignore[attr-defined]  # made here, for no type checker to see
        if all(_is_argument(column.name) for column in cls.shape.columns):
            cls.columns = _by_columns(cls.shape, answer)  # type: ignore[attr-defined]

    def load(self, ctx: Context) -> None:
        """Load the pipeline, where no ONNX graph stands for it.

        Raises:
            InvalidConfiguration: the pipeline itself answers, and the CPU was not among the devices asked for.
            MissingExtra: scikit-learn, skops or pandas is not installed.
            ModelError: it cannot be loaded.
        """
        self._answers = _answer_type(self.shape)
        if not isinstance(self.model, ModelFile):
            if "cpu" not in ctx.devices:
                asked = ",".join(ctx.devices)
                raise InvalidConfiguration(
                    f"device {asked}: scikit-learn computes on the cpu only. To fall back, say so: {asked},cpu"
                )
            self._pipeline = load_pipeline(Path(self.model), self.shape.trusted)

    def answer(self, values: Mapping[str, Sequence[Any]]) -> list[Any]:
        """One answer per row.

        Args:
            values: by column, each as long as there are rows; None is a missing value.

        Raises:
            InvalidInput: the pipeline refuses a value, such as an unknown category.
        """
        given = (
            self._run_graph(values) if isinstance(self.model, ModelFile) else ask(self._pipeline, self.shape, values)
        )
        return [self._answers(**dict(zip(given, row, strict=True))) for row in zip(*given.values(), strict=True)]

    def _run_graph(self, values: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        inputs = graph_inputs(self.shape, values)
        try:
            outputs = self.model.run(inputs)
        except ModelError as error:
            if _UNKNOWN_CATEGORY not in error.message:
                raise
            words = ", ".join(column.name for column in self.shape.columns if column.kind != "number")
            raise InvalidInput(f"a value is of no category that the model knows; look at {words}") from error
        return named_answers(self.shape, *[_decoded(array) for array in outputs.values()])


def ask(pipeline: Any, shape: TableShape, values: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Ask a fitted pipeline about columns.

    Raises:
        InvalidInput: it refuses a value.
        ModelError: it failed.
    """
    frame = data_frame(shape, values)
    try:
        probabilities = pipeline.predict_proba(frame) if shape.probabilities else None
        if probabilities is not None and shape.label_by_score:
            given = np.asarray(pipeline.classes_)[np.asarray(probabilities).argmax(axis=1)]
        else:
            given = getattr(pipeline, shape.method)(frame)
    except (ValueError, TypeError) as error:  # how the library says that a value is not one it takes
        raise InvalidInput(f"the model refuses these rows: {brief(error)}") from error
    except Exception as error:
        raise ModelError(f"the model failed: {brief(error)}") from error
    arrays = [np.asarray(given.toarray() if hasattr(given, "toarray") else given)]
    return named_answers(shape, *arrays, *([] if probabilities is None else [np.asarray(probabilities)]))


def named_answers(shape: TableShape, first: NDArray[Any], *others: NDArray[Any]) -> dict[str, list[Any]]:
    """What a pipeline or a graph gave, by the names of the answer's fields, one element per row."""
    if shape.labels:
        labels = first.reshape(len(first)).tolist()
        named: dict[str, list[Any]] = {"label": [KINDS[shape.label_kind](label) for label in labels]}
        if shape.probabilities:
            named["probabilities"] = list(np.asarray(others[0], np.float64))
        return named
    numbers = np.asarray(first, np.float64)
    if shape.width < 0:  # not known yet: whatever there is
        return {"prediction": list(numbers.reshape(len(numbers), -1))}
    if not shape.width:
        return {"prediction": numbers.reshape(len(numbers)).tolist()}
    return {"prediction": list(numbers.reshape(len(numbers), shape.width))}


def data_frame(shape: TableShape, values: Mapping[str, Sequence[Any]]) -> Any:
    """The rows as the pipeline was fitted with them: missing numbers and texts are NaN.

    Raises:
        MissingExtra: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise MissingExtra("pandas", "sklearn", "serving a pipeline of named columns") from error
    return pandas.DataFrame({column.name: _series(column, values[column.name]) for column in shape.columns})


def graph_inputs(shape: TableShape, values: Mapping[str, Sequence[Any]]) -> dict[str, NDArray[Any]]:
    """The same as inputs of an ONNX graph, each ``[rows, 1]``.

    Raises:
        InvalidInput: a value is missing where a graph has no way to say so.
    """
    inputs = {}
    for position, column in enumerate(shape.columns):
        elements = values[column.name]
        absent = column.kind != "number" and any(element is None for element in elements)
        if absent and not (column.kind == "text" and shape.missing_words):
            raise InvalidInput(f"column {column.name!r}: this model takes no missing {column.kind}")
        if column.kind == "text":
            array = np.empty(len(elements), np.object_)
            array[:] = [_MISSING_WORD if element is None else element.encode() for element in elements]
        elif column.kind == "number":
            array = np.array([np.nan if element is None else element for element in elements], np.float32)
        else:
            array = np.array(elements, np.int64 if column.kind == "integer" else np.bool_)
        inputs[graph_name(position)] = array.reshape(-1, 1)
    return inputs


def graph_name(position: int) -> str:
    """What a graph calls the column at a position: its own name may be any text."""
    return f"column_{position}"


def load_pipeline(path: Path, trusted: Sequence[str]) -> Any:
    """Load a fitted pipeline: skops, or a pickle that was trusted when it was packed.

    Raises:
        MissingExtra: a library is not installed.
        ModelError: it cannot be loaded.
    """
    try:
        import joblib
        import skops.io
    except ImportError as error:
        raise MissingExtra("scikit-learn and skops", "sklearn", f"loading {path.name}") from error
    try:
        return skops.io.load(path, trusted=list(trusted)) if path.suffix == ".skops" else joblib.load(path)
    except Exception as error:  # both raise whatever they meet
        raise ModelError(f"{path.name} cannot be loaded: {brief(error)}") from error


def _series(column: TableColumn, elements: Sequence[Any]) -> NDArray[Any]:
    missing = any(element is None for element in elements)
    if column.kind == "text" or (missing and column.kind == "boolean"):
        array = np.empty(len(elements), np.object_)
        array[:] = [np.nan if element is None else element for element in elements] if missing else elements
        return array
    if missing or column.kind == "number":
        return np.array([np.nan if element is None else element for element in elements], np.float64)
    return np.array(elements, np.int64 if column.kind == "integer" else np.bool_)


def _decoded(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype != np.object_:
        return array
    decoded = np.empty(array.size, np.object_)
    decoded[:] = [element.decode() for element in array.ravel().tolist()]
    return decoded.reshape(array.shape)


def _record_type(shape: TableShape) -> type[msgspec.Struct]:
    """A row; what is left out is missing, and what is unknown is refused."""
    fields = [
        (f"column_{position}", KINDS[column.kind] | None, msgspec.field(name=column.name, default=None))
        for position, column in enumerate(shape.columns)
    ]
    return msgspec.defstruct("Record", fields, forbid_unknown_fields=True, frozen=True)


def _answer_type(shape: TableShape) -> type[msgspec.Struct]:
    fields: list[tuple[str, Any]] = []
    if shape.labels:
        fields.append(("label", KINDS[shape.label_kind]))
        if shape.probabilities:
            fields.append(("probabilities", Tensor["float64", len(shape.labels)]))
    else:
        fields.append(("prediction", Tensor["float64", shape.width] if shape.width else float))
    return msgspec.defstruct("Answer", fields, frozen=True)


def _by_records(record: type, answer: type) -> Any:
    def predict(self: TableModel, records: Any) -> Any:
        """Answer records: one object per row, its keys the columns' names."""
        names = [column.name for column in self.shape.columns]
        rows = [msgspec.structs.astuple(row) for row in records]
        return self.answer(dict(zip(names, zip(*rows, strict=True), strict=True)))

    predict.__annotations__ = {"records": list[record], "return": list[answer]}  # type: ignore[valid-type]
    return endpoint(batch=BATCH_ROWS)(predict)


def _by_columns(shape: TableShape, answer: type) -> Any:
    def columns(self: TableModel, **values: Any) -> Any:
        """Answer columns: each key a column's name, its value a list with one element per row."""
        return self.answer(values)

    kinds = {column.name: types.GenericAlias(list, KINDS[column.kind] | None) for column in shape.columns}
    self_ = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    arguments = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kinds[name]) for name in kinds]
    columns.__annotations__ = {**kinds, "return": list[answer]}  # type: ignore[valid-type]
    columns.__signature__ = inspect.Signature([self_, *arguments])  # type: ignore[attr-defined]
    return endpoint(batch=BATCH_ROWS)(columns)


def _is_argument(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and name != "self"
