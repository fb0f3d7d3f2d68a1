"""Real models on real data, one of each format, for the table in docs/formats.md: how to make, ask and judge each."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import catboost
import lightgbm
import numpy as np
import onnx
import pandas
import skops.io
import xgboost
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from statsmodels.datasets import randhie

from digits_files import DIGITS, LEARNT, digits_graph, openvino_file, ort_file, tflite_file

CANCER, MALIGNANT = load_breast_cancer(return_X_y=True)
CANCER = CANCER.astype(np.float32)


@dataclass
class Case:
    """One format.

    Attributes:
        name: as the table says it.
        source: the file or folder.
        inputs: what to ask, one array per input, or columns of a table.
        predict: what the source framework answers to the same rows: scores ``[rows, classes]``.
        output: name of the scores in our answer.
        by_records: asked as a table of records.
        notes: for the table.
    """

    name: str
    source: Path
    inputs: dict[str, Any]
    predict: Callable[[dict[str, Any]], np.ndarray]
    output: str
    by_records: bool = False
    notes: dict[str, str] = field(default_factory=dict)


def numbers_case(folder: Path) -> Case:
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(CANCER, MALIGNANT)
    skops.io.dump(pipeline, folder / "numbers.skops")
    return Case(
        "scikit-learn, numbers (.skops)",
        folder / "numbers.skops",
        {"X": CANCER},
        lambda rows: pipeline.predict_proba(rows["X"]),
        "probabilities",
    )


def visits() -> tuple[pandas.DataFrame, np.ndarray]:
    """The RAND health insurance experiment, its dummies turned back into the words they stand for."""
    raw = randhie.load_pandas().data[::10].reset_index(drop=True)
    health = np.select([raw.hlthg == 1, raw.hlthf == 1, raw.hlthp == 1], ["good", "fair", "poor"], "excellent")
    words = {"deductible": np.where(raw.idp == 1, "yes", "no"), "health": health}
    return pandas.DataFrame({"lncoins": raw.lncoins, "disea": raw.disea, **words}), (raw.mdvis > 2).to_numpy(int)


def _table(folder: Path, name: str, words: Any, label: str) -> Case:
    table, many = visits()
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = ColumnTransformer([("n", numbers, ["lncoins", "disea"]), ("w", words, ["deductible", "health"])])
    pipeline = make_pipeline(columns, LogisticRegression(max_iter=500)).fit(table, many)
    skops.io.dump(pipeline, folder / f"{name}.skops")
    lists = {column: table[column].tolist() for column in table}
    return Case(
        label,
        folder / f"{name}.skops",
        lists,
        lambda rows: pipeline.predict_proba(pandas.DataFrame(rows)),
        "probabilities",
        by_records=True,
    )


def table_case(folder: Path) -> Case:
    return _table(
        folder, "words", OneHotEncoder(handle_unknown="ignore"), "scikit-learn, mixed table, as ONNX (.skops)"
    )


def holed_table_case(folder: Path) -> Case:
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    return _table(folder, "holes", words, "scikit-learn, mixed table, imputed words (.skops)")


def xgboost_case(folder: Path) -> Case:
    model = xgboost.XGBClassifier(n_estimators=100, n_jobs=1).fit(CANCER, MALIGNANT)
    model.save_model(folder / "boosted.ubj")
    return Case(
        "XGBoost (.json, .ubj)",
        folder / "boosted.ubj",
        {"X": CANCER},
        lambda rows: model.predict_proba(rows["X"]),
        "probabilities",
    )


def lightgbm_case(folder: Path) -> Case:
    model = lightgbm.LGBMClassifier(n_estimators=100, verbose=-1, n_jobs=1).fit(CANCER, MALIGNANT).booster_
    model.save_model(folder / "boosted.txt")

    def predict(rows: dict[str, Any]) -> np.ndarray:
        second = np.asarray(model.predict(rows["X"], num_threads=1))
        return np.stack([1 - second, second], axis=1)

    return Case("LightGBM (.txt)", folder / "boosted.txt", {"X": CANCER}, predict, "probabilities")


def catboost_case(folder: Path) -> Case:
    model = catboost.CatBoostClassifier(iterations=100, verbose=0, allow_writing_files=False, thread_count=1)
    model.fit(CANCER, MALIGNANT).save_model(folder / "boosted.cbm")
    return Case(
        "CatBoost (.cbm)",
        folder / "boosted.cbm",
        {"X": CANCER},
        lambda rows: model.predict_proba(rows["X"], thread_count=1),
        "probabilities",
    )


def _digits(name: str, source: Path) -> Case:
    return Case(name, source, {"image": DIGITS}, lambda rows: LEARNT.predict_proba(rows["image"]), "probabilities")


def onnx_case(folder: Path) -> Case:
    onnx.save(digits_graph(), folder / "digits.onnx")
    return _digits("ONNX (.onnx)", folder / "digits.onnx")


def ort_case(folder: Path) -> Case:
    return _digits("ONNX Runtime (.ort)", ort_file(folder))


def openvino_case(folder: Path) -> Case:
    return _digits("OpenVINO (.xml)", openvino_file(folder))


def litert_case(folder: Path) -> Case:
    return _digits("LiteRT (.tflite)", tflite_file(folder))


CASES = (
    numbers_case,
    table_case,
    holed_table_case,
    xgboost_case,
    lightgbm_case,
    catboost_case,
    onnx_case,
    ort_case,
    openvino_case,
    litert_case,
)
