"""scikit-learn pipelines of named columns: table models, as ONNX where proven equal, else the pipeline itself."""

from __future__ import annotations

import importlib.metadata
import itertools
import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from setpoint.authoring import (
    InvalidInput,
    ModelFile,
    TableShape,
    UserModule,
    ask_pipeline,
    describe,
    graph_inputs,
    named_answers,
    table_graph_name,
)
from setpoint.core import (
    ConversionMismatch,
    InvalidConfiguration,
    Lineage,
    ModelError,
    ModelManifest,
    Signature,
    Variant,
)
from setpoint.engines import EngineOptions, load_onnx, one_line
from setpoint.formats.base import PackedModel
from setpoint.formats.forest import OPSETS
from setpoint.formats.proof import Trial, prove
from setpoint.formats.sklearn_columns import Values, columns_of, made_up_columns, table_columns
from setpoint.formats.tensor_model import ARTIFACT, source_digest

CLASS_NAME = "Table"
_MODULE = '''"""The {title} that was packed, asked by records or by columns. Plain Python: read it, change it."""

import setpoint as sp


class {name}(sp.TableModel, shape="table.json"):
    """A scikit-learn {title} of {columns} columns."""

    model = {model}
'''
_MOST_LABELS = 100_000


def pack_table(
    estimator: Any,
    source: Path,
    trusted: tuple[str, ...],
    suffix: str,
    notes: tuple[str, ...],
    workdir: Path,
    stem: str,
) -> PackedModel:
    """Describe and check a fitted pipeline of named columns.

    Args:
        estimator: the pipeline.
        source: the file it came from, which the bundle keeps where no ONNX graph stands for it.
        trusted: types of a skops file that the user trusts.
        suffix: ``.skops`` or ``.pkl``: what the file is.
        notes: what loading said.
        workdir: for files that are made.
        stem: the suggested name.

    Raises:
        InvalidConfiguration: it takes none of the made-up rows, or gives what no table answer can say.
    """
    title = type(estimator).__name__
    learnt = columns_of(estimator)
    shape = _shape(estimator, msgspec.structs.replace(TableShape(table_columns(learnt)), trusted=trusted), title)
    trials, shape = _trials(estimator, shape, learnt, title)
    files: dict[str, Path] = {}
    artifact = workdir / ARTIFACT
    shape = msgspec.structs.replace(shape, label_by_score=_label_is_best(estimator, shape, trials))
    try:
        open_to_holes = msgspec.structs.replace(shape, missing_words=True)
        checks = [_converted(estimator, open_to_holes, trials, artifact, title)]
        shape = msgspec.structs.replace(shape, missing_words=_has_missing_words(shape, trials))
        files[ARTIFACT] = artifact
        model = f'sp.uses("{ARTIFACT}")'
    except ConversionMismatch as error:
        checks = [f"served by scikit-learn itself: {error.message}", _taken(trials)]
        files[f"model{suffix}"] = source
        model = f'sp.file("model{suffix}")'
    (workdir / "table.json").write_bytes(msgspec.json.encode(shape, order="deterministic"))
    module = workdir / "model.py"
    module.write_text(_MODULE.format(title=title, name=CLASS_NAME, columns=len(shape.columns), model=model))
    files |= {"model.py": module, "table.json": workdir / "table.json"}
    libraries = (
        ("scikit-learn", "skl2onnx", "onnxruntime") if ARTIFACT in files else ("scikit-learn", "skops", "pandas")
    )
    tools = {name: importlib.metadata.version(name) for name in libraries}
    loaded = UserModule(module)
    try:
        endpoints, schemas = describe(loaded.model_class(CLASS_NAME))
    finally:
        loaded.close()
    lineage = Lineage("sklearn", source_digest(source), tools, (*notes, *checks))
    variant = Variant(name="python", engine="python", artifact="model.py", entry=CLASS_NAME)
    return PackedModel(ModelManifest(endpoints, (variant,), lineage, schemas), dict(sorted(files.items())), stem)


def _shape(estimator: Any, shape: TableShape, title: str) -> TableShape:
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        method = "predict" if hasattr(estimator, "predict") else "transform"
        if not hasattr(estimator, method):
            raise InvalidConfiguration(f"the {title} neither predicts nor transforms")
        return msgspec.structs.replace(shape, method=method)
    if isinstance(classes, list) or np.ndim(classes) != 1 or len(classes) > _MOST_LABELS:
        raise InvalidConfiguration(f"the {title} answers several labels a row, which no table answer says; wrap it")
    kinds = {"b": "boolean", "i": "integer", "u": "integer", "f": "number"}
    kind = kinds.get(np.asarray(classes).dtype.kind, "text")
    labels = tuple(str(label) if kind == "text" else label for label in np.asarray(classes).tolist())
    probabilities = hasattr(estimator, "predict_proba")
    return msgspec.structs.replace(shape, labels=labels, label_kind=kind, probabilities=probabilities)


def _trials(
    estimator: Any, shape: TableShape, learnt: dict[str, Any], title: str
) -> tuple[list[tuple[Values, str]], TableShape]:
    """Made-up rows that the pipeline takes, the most demanding first; and the shape with the width that it answers."""
    taken: list[tuple[Values, str]] = []
    problem = ""
    for unknown, holes, negative in itertools.product((True, False), (True, False), (True, False)):
        if taken and not negative:
            continue  # logarithms and the like take none; where any are taken, these rows show nothing new
        values = made_up_columns(learnt, unknown=unknown, holes=holes, negative=negative)
        origin = " and ".join(["made-up rows", *(["unknown words"] * unknown), *(["missing values"] * holes)])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                shape = _with_width(estimator, shape, values)
                ask_pipeline(estimator, shape, values)
        except (InvalidInput, ModelError) as error:
            problem = str(error)
            continue
        taken.append((values, origin))
    if not taken:
        columns = ", ".join(f"{column.name} ({column.kind})" for column in shape.columns[:8])
        raise InvalidConfiguration(f"the {title} takes none of the made-up rows of {columns}: {problem}")
    return taken, shape


def _has_missing_words(shape: TableShape, trials: list[tuple[Values, str]]) -> bool:
    words = [column.name for column in shape.columns if column.kind == "text"]
    return any(None in values[name] for values, _ in trials for name in words)


def _label_is_best(estimator: Any, shape: TableShape, trials: list[tuple[Values, str]]) -> bool:
    """Whether the label is always that of the best probability, as it is for most classifiers (not for some SVMs)."""
    if not shape.probabilities:
        return False
    for values, _ in trials:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answers = ask_pipeline(estimator, shape, values)
        best = np.asarray(answers["probabilities"]).argmax(axis=1)
        if [shape.labels[position] for position in best.tolist()] != answers["label"]:
            return False
    return True


def _with_width(estimator: Any, shape: TableShape, values: Values) -> TableShape:
    if shape.labels:
        return shape
    probe = msgspec.structs.replace(shape, width=-1)  # any number of columns
    rows = np.asarray(ask_pipeline(estimator, probe, values)["prediction"])
    one = shape.method == "predict" and rows.shape[1] == 1
    return msgspec.structs.replace(shape, width=0 if one else int(rows.shape[1]))


def _converted(estimator: Any, shape: TableShape, trials: list[tuple[Values, str]], artifact: Path, title: str) -> str:
    """Write the ONNX graph and prove it.

    Raises:
        ConversionMismatch: there is none, or it answers differently; the message says why.
    """
    kinds = {column.kind for values, _ in trials for column in shape.columns if None in values[column.name]}
    if kinds - {"number", "text"}:
        raise ConversionMismatch(f"it takes a missing {min(kinds - {'number', 'text'})}, which ONNX cannot say")
    artifact.write_bytes(_graph(estimator, shape, title))
    try:
        executable = load_onnx(artifact, EngineOptions(), quiet=True)
    except ModelError as error:
        raise ConversionMismatch(f"its ONNX graph cannot be loaded ({error})") from error
    graph = ModelFile(ARTIFACT, Signature((), (), batched=False), executable)

    def run_source(arrays: Any) -> dict[str, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _arrays(ask_pipeline(estimator, shape, _values(arrays)))

    def run_graph(arrays: Any) -> dict[str, Any]:
        outputs = graph.run(graph_inputs(shape, _values(arrays)))
        decoded = [_decoded(output) for output in outputs.values()]
        return _arrays(named_answers(shape, *decoded))

    asked = [
        Trial({name: _objects(column[part]) for name, column in values.items()}, origin)
        for values, origin in trials
        for part in (slice(None), slice(0, 7), slice(0, 1), slice(1, 2))
    ]
    ties = ("label", "probabilities") if shape.probabilities else None
    return prove(run_source, run_graph, asked, f"the {title}'s ONNX conversion", remedy="so it is not used", ties=ties)


def _graph(estimator: Any, shape: TableShape, title: str) -> bytes:
    try:
        import skl2onnx
        from skl2onnx.common.data_types import BooleanTensorType, FloatTensorType, Int64TensorType, StringTensorType
    except ImportError as error:
        raise ConversionMismatch("skl2onnx is not installed") from error
    kinds = {
        "number": FloatTensorType,
        "integer": Int64TensorType,
        "text": StringTensorType,
        "boolean": BooleanTensorType,
    }
    # skl2onnx finds columns by name, so they keep theirs here and are renamed after.
    types = [(column.name, kinds[column.kind]([None, 1])) for column in shape.columns]
    options = {id(estimator): {"zipmap": False}} if shape.labels else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = skl2onnx.convert_sklearn(
                estimator, name=title, initial_types=types, target_opset=OPSETS, options=options
            )
    except Exception as error:  # converters raise whatever they meet
        raise ConversionMismatch(f"it cannot be converted to ONNX ({one_line(error, 150)})") from error
    _rename_inputs(model, shape)
    return bytes(model.SerializeToString(deterministic=True))


def _rename_inputs(model: Any, shape: TableShape) -> None:
    given = {value.name for value in model.graph.input}
    names = {column.name: table_graph_name(position) for position, column in enumerate(shape.columns)}
    if given - set(names):
        raise ConversionMismatch(f"its ONNX graph has other inputs ({', '.join(sorted(given - set(names)))})")
    for value in model.graph.input:
        value.name = names[value.name]
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def _values(arrays: Any) -> Values:
    return {name: array.tolist() for name, array in arrays.items()}


def _objects(column: list[Any]) -> Any:
    array = np.empty(len(column), np.object_)
    array[:] = column
    return array


def _arrays(answers: dict[str, list[Any]]) -> dict[str, Any]:
    """Answers in the precision that a graph computes in; labels as bytes where they are words."""
    arrays = {}
    for name, values in answers.items():
        if values and isinstance(values[0], str):
            arrays[name] = _objects([value.encode() for value in values])
        else:
            array = np.asarray(values)
            arrays[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
    return arrays


def _decoded(array: Any) -> Any:
    return array if array.dtype != np.object_ else _objects([element.decode() for element in array.ravel().tolist()])


def _taken(trials: list[tuple[Values, str]]) -> str:
    rows = len(next(iter(trials[0][0].values())))
    return f"answers {rows} {trials[0][1]}"
