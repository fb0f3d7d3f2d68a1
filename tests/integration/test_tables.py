"""A scikit-learn pipeline of words and numbers over HTTP: records, columns, V2 tensors, missing values, mistakes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def test_records_columns_and_tensors_give_the_pipelines_answers(
    pack: Callable[..., str], serve: Callable[..., Any], tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    table = pandas.DataFrame(
        {"age": random.integers(18, 90, 200).astype(float), "city": random.choice(["Bern", "Chur"], 200)}
    )
    table.loc[::9, "city"] = np.nan
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    pipeline = make_pipeline(ColumnTransformer([("n", numbers, ["age"]), ("w", words, ["city"])]), Ridge())
    skops.io.dump(pipeline.fit(table, table.age * (table.city == "Bern")), tmp_path / "rent.skops")
    node = serve(pack(tmp_path / "rent.skops", "rent"))

    asked = pandas.DataFrame({"age": [30.0, np.nan, 50.0], "city": ["Bern", "Chur", np.nan]})
    expected = pipeline.predict(asked)
    rows = [{"age": 30, "city": "Bern"}, {"age": None, "city": "Chur"}, {"age": 50}]
    by_records = node.ask("POST", "/models/rent/predict", {"records": rows}).json
    np.testing.assert_allclose([row["prediction"] for row in by_records], expected)
    lists = {"age": [30, None, 50], "city": ["Bern", "Chur", None]}
    np.testing.assert_allclose(
        [row["prediction"] for row in node.ask("POST", "/models/rent/columns", lists).json], expected
    )
    tensors = [
        {"name": "age", "shape": [1], "datatype": "FP64", "data": [30]},
        {"name": "city", "shape": [1], "datatype": "BYTES", "data": ["Bern"]},
    ]
    (output,) = node.ask("POST", "/v2/models/rent/infer", {"inputs": tensors}).json["outputs"]
    np.testing.assert_allclose(output["data"], expected[:1])
    wrong = node.ask("POST", "/models/rent/predict", {"records": [{"agee": 3}]})
    assert (wrong.status, "unknown key 'agee'" in wrong.error) == (400, True)
