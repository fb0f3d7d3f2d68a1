"""Estimators become ONNX models that answer as they do, or packing says why not."""

import bz2
import gzip
import lzma
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import pytest
import skops.io
from sklearn.cluster import DBSCAN, KMeans
from sklearn.datasets import load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from setpoint.core import ConversionMismatch, InvalidConfiguration, UntrustedFile
from setpoint.engines import EngineOptions, load_onnx
from setpoint.formats import PackedModel, PackOptions
from setpoint.formats import sklearn as module
from setpoint.formats.sklearn import SklearnFormat, is_pickle, is_skops
from setpoint.formats.sklearn_check import check_conversion
from setpoint.formats.sklearn_repairs import round_down
from setpoint.formats.sklearn_rows import made_up_rows

Pack = Callable[..., PackedModel]
IRIS, SPECIES = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[SPECIES]
DIABETES, PROGRESSION = load_diabetes(return_X_y=True)


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """``pack(estimator)`` saves it and packs the file; options are those of packing."""

    def save_and_pack(estimator: Any, **options: Any) -> PackedModel:
        path = tmp_path / "model.joblib"
        joblib.dump(estimator, path)
        workdir = tmp_path / "work"
        workdir.mkdir(exist_ok=True)
        return SklearnFormat().pack(path, PackOptions(**{"trust": True, **options}), workdir)

    return save_and_pack


def answers(packed: PackedModel, rows: np.ndarray) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    executable = load_onnx(packed.files["model.onnx"], EngineOptions())
    return executable.run({"X": rows.astype(np.float32)})


# conversions that hold


@pytest.mark.parametrize(
    ("estimator", "signature"),
    [
        (LogisticRegression(max_iter=1000).fit(IRIS, SPECIES), "label INT64[-1], probabilities FP32[-1, 3]"),
        (LogisticRegression(max_iter=1000).fit(IRIS, NAMES), "label BYTES[-1], probabilities FP32[-1, 3]"),
        (make_pipeline(StandardScaler(), SVC()).fit(IRIS, SPECIES), "label INT64[-1], probabilities FP32[-1, 3]"),
        (LinearSVC().fit(IRIS, SPECIES), "label INT64[-1], probabilities FP32[-1, 3]"),
        (RandomForestClassifier(10).fit(IRIS, NAMES), "label BYTES[-1], probabilities FP32[-1, 3]"),
        (KNeighborsClassifier().fit(IRIS, SPECIES), "label INT64[-1], probabilities FP32[-1, 3]"),
        (KMeans(3, n_init=1).fit(IRIS), "label INT64[-1], scores FP32[-1, 3]"),
        (make_pipeline(StandardScaler(), PCA(2)).fit(IRIS), "variable FP32[-1, 2]"),
        (OneHotEncoder().fit(np.arange(12).reshape(3, 4) % 3), "variable FP32[-1, 12]"),
        (IsolationForest(n_estimators=10).fit(IRIS), "label INT64[-1, 1], scores FP32[-1, 1]"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_iris_models_convert_and_are_batched(pack: Pack, estimator: Any, signature: str) -> None:
    packed = pack(estimator)
    assert str(packed.manifest.signature) == f"X FP32[-1, 4] → {signature}"
    assert packed.manifest.signature is not None
    assert packed.manifest.signature.batched
    assert packed.manifest.lineage.checks[0].startswith("converted answers: ")
    assert set(packed.manifest.lineage.tools) == {"onnxruntime", "scikit-learn", "skl2onnx"}


@pytest.mark.parametrize(
    ("estimator", "outputs"),
    [(Ridge().fit(DIABETES, PROGRESSION), 1), (RandomForestRegressor(5).fit(DIABETES, DIABETES[:, :2]), 2)],
)
def test_regressors_convert(pack: Pack, estimator: Any, outputs: int) -> None:
    packed = pack(estimator)
    assert str(packed.manifest.signature) == f"X FP32[-1, 10] → variable FP32[-1, {outputs}]"
    expected = estimator.predict(DIABETES.astype(np.float32).astype(np.float64)).reshape(-1, outputs)
    np.testing.assert_allclose(answers(packed, DIABETES)["variable"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "estimator",
    [
        HistGradientBoostingClassifier(max_iter=20).fit(IRIS, SPECIES),
        HistGradientBoostingRegressor(max_iter=20).fit(DIABETES, PROGRESSION),
        make_pipeline(StandardScaler(), HistGradientBoostingRegressor(max_iter=20)).fit(DIABETES, PROGRESSION),
    ],
)
def test_histogram_boosting_converts_to_the_last_threshold(pack: Pack, estimator: Any) -> None:
    """Its converter fails on booleans and rounds thresholds the wrong way; both are repaired."""
    before = estimator.predict(made_up_rows(estimator, estimator.n_features_in_).astype(np.float64))
    packed = pack(estimator)
    assert "but for" not in packed.manifest.lineage.checks[0]
    rows = made_up_rows(estimator, estimator.n_features_in_)
    np.testing.assert_array_equal(estimator.predict(rows.astype(np.float64)), before)


def test_thresholds_are_rounded_to_the_float_below() -> None:
    values = np.array([0.1, 0.5, -0.1, 1e30, -1e30, 0.0, 16777217.0])
    rounded = round_down(values)
    assert round_down(np.array([1e300]))[0] == np.finfo(np.float32).max
    assert (rounded <= values).all()
    assert (rounded.astype(np.float32).astype(np.float64) == rounded).all()
    above = np.nextafter(rounded.astype(np.float32), np.float32(np.inf)).astype(np.float64)
    assert (above > values).all()


def test_a_vote_converts(pack: Pack) -> None:
    members = [("a", LogisticRegression(max_iter=1000)), ("b", GaussianNB())]
    packed = pack(VotingClassifier(members, voting="soft").fit(IRIS, SPECIES))
    np.testing.assert_array_equal(
        answers(packed, IRIS)["label"], VotingClassifier(members, voting="soft").fit(IRIS, SPECIES).predict(IRIS)
    )


def test_packing_twice_gives_equal_bytes(pack: Pack) -> None:
    estimator = RandomForestClassifier(5).fit(IRIS, SPECIES)
    packed = [pack(estimator) for _ in range(2)]
    assert packed[0].manifest.to_json() == packed[1].manifest.to_json()
    first = packed[0].files["model.onnx"].read_bytes()
    assert pack(estimator).files["model.onnx"].read_bytes() == first


def test_the_users_rows_are_used(pack: Pack, tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", anything=IRIS)
    packed = pack(GaussianNB().fit(IRIS, SPECIES), sample=tmp_path / "rows.npz")
    assert "150 rows of rows.npz, batches of 1, 7 and 150" in packed.manifest.lineage.checks[0]


@pytest.mark.parametrize("rows", [IRIS[:, :3], IRIS[0], IRIS[:0], IRIS.astype(str)])
def test_rows_that_do_not_fit_are_refused(pack: Pack, tmp_path: Path, rows: np.ndarray) -> None:  # type: ignore[type-arg]
    np.savez(tmp_path / "rows.npz", rows)
    with pytest.raises(InvalidConfiguration, match=r"expected numbers of shape \[rows, 4\]"):
        pack(GaussianNB().fit(IRIS, SPECIES), sample=tmp_path / "rows.npz")


def test_missing_values_are_told_where_the_conversion_loses_them(pack: Pack) -> None:
    checks = pack(DecisionTreeClassifier().fit(IRIS, SPECIES)).manifest.lineage.checks
    assert "missing values (NaN): the conversion answers differently from the estimator; send none" in checks
    checks = pack(HistGradientBoostingClassifier(max_iter=5).fit(IRIS, SPECIES)).manifest.lineage.checks
    assert "missing values (NaN): answered as the estimator does" in checks


# conversions that do not hold


def change_weights(change: Callable[[list[float]], list[float]]) -> Callable[..., onnx.ModelProto]:
    """A converter that is wrong: it spoils the coefficients after the real one."""
    convert = module._convert

    def wrong(*arguments: Any) -> onnx.ModelProto:
        model = convert(*arguments)
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name in ("coefficients", "class_weights", "target_weights"):
                    changed = change(list(attribute.floats))
                    del attribute.floats[:]
                    attribute.floats.extend(changed)
        return model

    return wrong


@pytest.mark.parametrize(
    ("estimator", "change", "complaint"),
    [
        (
            LogisticRegression(max_iter=1000).fit(IRIS, SPECIES),
            lambda weights: [*weights[:-1], weights[-1] * 1.05],
            r"probabilities against predict_proba: \d+\.\d% of 256 rows differ, worst difference 0\.\d+ absolute",
        ),
        (
            LogisticRegression(max_iter=1000).fit(IRIS, SPECIES),
            lambda weights: [-weight for weight in weights],
            r"label against predict: \d+\.\d% of 256 rows differ",
        ),
        (
            Ridge().fit(DIABETES, PROGRESSION),
            lambda weights: [weights[0] + 5.0, *weights[1:]],
            r"variable against predict: \d+\.\d% of 256 rows differ, worst difference .* absolute, .* relative",
        ),
        (
            RandomForestClassifier(10, random_state=0).fit(IRIS, SPECIES),
            lambda weights: [*weights[:5], 1 - weights[5], *weights[6:]],
            "against predict",
        ),
    ],
)
def test_a_wrong_conversion_is_caught_and_measured(
    pack: Pack, monkeypatch: pytest.MonkeyPatch, estimator: Any, change: Any, complaint: str
) -> None:
    pack(estimator)
    monkeypatch.setattr(module, "_convert", change_weights(change))
    with pytest.raises(ConversionMismatch, match=complaint):
        pack(estimator)


def test_a_conversion_that_depends_on_the_batch_is_caught(tmp_path: Path) -> None:
    """Right for the whole batch that was compared, wrong for any smaller one."""
    rows = IRIS.astype(np.float32)
    nodes = [
        onnx.helper.make_node("ReduceMean", ["X", "zero"], ["mean"], keepdims=1),
        onnx.helper.make_node("Sub", ["X", "mean"], ["variable"]),
    ]
    zero = onnx.helper.make_tensor("zero", onnx.TensorProto.INT64, [1], [0])
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 4]) for name in ("X", "variable")]
    made = onnx.helper.make_graph(nodes, "g", values[:1], values[1:], [zero])
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    scaler = StandardScaler(with_std=False).fit(rows)
    with pytest.raises(ConversionMismatch, match="gives another variable when asked for 1 rows than for 150"):
        check_conversion(scaler, path, "X", rows, "the conversion", "rows")


class HalfUp:
    """Class 1 above 0.1, compared in double precision, with probabilities that tie at 0.5."""

    classes_ = np.array([0, 1])

    def predict(self, rows: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return (rows[:, 0] > 0.1).astype(np.int64)


class Tying(HalfUp):
    """The first of equally likely classes."""

    def predict_proba(self, rows: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return np.stack([1 - rows[:, 0], rows[:, 0]], axis=1)

    def predict(self, rows: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return self.predict_proba(rows).argmax(axis=1)


def saved(
    tmp_path: Path, nodes: list[onnx.NodeProto], outputs: dict[str, int], *initializers: onnx.TensorProto
) -> Path:
    table = onnx.helper.make_tensor_value_info("X", onnx.TensorProto.FLOAT, ["n", 1])
    values = [onnx.helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
    made = onnx.helper.make_graph(nodes, "g", [table], values, list(initializers))
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_row_on_a_boundary_is_excused_and_told(tmp_path: Path) -> None:
    """0.1 as float32 lies above 0.1, so this value is on one side in double precision and on the other in single."""
    nodes = [
        onnx.helper.make_node("Greater", ["X", "threshold"], ["above"]),
        onnx.helper.make_node("Cast", ["above"], ["table"], to=onnx.TensorProto.INT64),
        onnx.helper.make_node("Squeeze", ["table", "one"], ["label"]),
    ]
    threshold = onnx.helper.make_tensor("threshold", onnx.TensorProto.FLOAT, [1], [0.1])
    one = onnx.helper.make_tensor("one", onnx.TensorProto.INT64, [1], [1])
    path = saved(tmp_path, nodes, {"label": onnx.TensorProto.INT64}, threshold, one)
    rows = np.append(np.linspace(0, 1, 99), 0.1).astype(np.float32)[:, None]
    told = check_conversion(HalfUp(), path, "X", rows, "the conversion", "rows")
    assert told[0].startswith("converted answers: label = predict but for 1 rows")
    assert told[1].startswith("1 answers lie on a decision boundary or are ties")
    many = np.full((20, 1), 0.1, np.float32)
    with pytest.raises(ConversionMismatch, match=r"100\.0% of 20 rows differ"):
        check_conversion(HalfUp(), path, "X", many, "the conversion", "rows")


def test_a_tie_is_excused_and_told(tmp_path: Path) -> None:
    nodes = [
        onnx.helper.make_node("Sub", ["unit", "X"], ["other"]),
        onnx.helper.make_node("Concat", ["other", "X"], ["probabilities"], axis=1),
        onnx.helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0, select_last_index=1),
    ]
    unit = onnx.helper.make_tensor("unit", onnx.TensorProto.FLOAT, [1], [1.0])
    outputs = {"label": onnx.TensorProto.INT64, "probabilities": onnx.TensorProto.FLOAT}
    path = saved(tmp_path, nodes, outputs, unit)
    rows = np.append(np.linspace(0, 1, 98), [0.5, 0.5]).astype(np.float32)[:, None]
    told = check_conversion(Tying(), path, "X", rows, "the conversion", "rows")
    assert "label = predict but for 2 rows" in told[0]
    assert told[1].startswith("2 answers")


@pytest.mark.parametrize(
    ("estimator", "complaint"),
    [
        (DBSCAN().fit(IRIS), "DBSCAN has no ONNX converter; to serve it as it is, wrap it in a Python class"),
        (
            make_pipeline(FunctionTransformer(np.log1p), Ridge()).fit(IRIS, SPECIES),
            "Pipeline cannot be converted to ONNX",
        ),
        (LogisticRegression(), "the LogisticRegression is not fitted; call fit"),
        ({"weights": 3}, "holds a builtins.dict, expected a scikit-learn estimator or pipeline"),
    ],
    ids=["no converter", "converter says no", "not fitted", "no estimator"],
)
def test_what_cannot_be_converted_is_named_with_the_remedy(pack: Pack, estimator: Any, complaint: str) -> None:
    with pytest.raises(InvalidConfiguration, match=complaint):
        pack(estimator)


# trust


class Trap:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("save", ["pickle", "joblib", "joblib-zlib", "joblib-xz", "joblib-bz2", "joblib-gzip"])
def test_a_pickle_runs_nothing_before_it_is_trusted(tmp_path: Path, save: str) -> None:
    path, mark = tmp_path / "model", tmp_path / "mark"
    if save == "pickle":
        path.write_bytes(pickle.dumps(Trap(mark)))
    else:
        _, _, method = save.partition("-")
        joblib.dump(Trap(mark), path, compress=(method, 3) if method else 0)
    assert SklearnFormat().recognises(path)
    with pytest.raises(UntrustedFile, match=r"can run any code when it is loaded\. Add --trust"):
        SklearnFormat().pack(path, PackOptions(), tmp_path)
    assert not mark.exists()
    with pytest.raises(InvalidConfiguration, match=r"holds a builtins\.NoneType"):
        SklearnFormat().pack(path, PackOptions(trust=True), tmp_path)
    assert mark.exists(), "the trap works, so its silence before meant something"


def test_a_skops_file_of_known_types_needs_no_trust(tmp_path: Path) -> None:
    path = tmp_path / "iris.skops"
    skops.io.dump(LogisticRegression(max_iter=1000).fit(IRIS, SPECIES), path)
    packed = SklearnFormat().pack(path, PackOptions(), tmp_path)
    assert packed.suggested_name == "iris"
    assert packed.manifest.lineage.format == "sklearn"


def test_a_skops_file_of_unknown_types_names_them(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    skops.io.dump(FunctionTransformer(os.getcwd), path)
    with pytest.raises(UntrustedFile, match=r"not know to be harmless: posix\.getcwd\. Add --trust"):
        SklearnFormat().pack(path, PackOptions(), tmp_path)


def test_a_module_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(b"\x80\x04cno_such_module\nThing\n.")
    with pytest.raises(InvalidConfiguration, match="needs the module no_such_module, which is not installed"):
        SklearnFormat().pack(path, PackOptions(trust=True), tmp_path)


# recognition


@pytest.mark.parametrize("name", ["model.joblib", "model.onnx", "model"])
@pytest.mark.parametrize("compress", [lambda data: data, gzip.compress, bz2.compress, lzma.compress])
def test_pickles_are_recognised_compressed_or_not(
    tmp_path: Path, name: str, compress: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / name
    path.write_bytes(compress(pickle.dumps([1, 2, 3])))
    assert is_pickle(path)


@pytest.mark.parametrize("content", [b"text", gzip.compress(b"text", mtime=0), b"\x80\x09", b"\x80", b""])
def test_other_content_is_no_pickle(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    assert not is_pickle(path)


def test_other_archives_are_not_skops(tmp_path: Path) -> None:
    for member, text in (("data.pkl", "x"), ("schema.json", "{}"), ("schema.json", "[]"), ("schema.json", "{")):
        path = tmp_path / "archive.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, text)
        assert not is_skops(path)


def test_suffixes_are_left_out_of_the_name(tmp_path: Path) -> None:
    assert module._stem(tmp_path / "iris.v2.pkl.gz") == "iris.v2"
