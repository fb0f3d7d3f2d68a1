"""Pipelines of named columns: asked by records or columns, as ONNX where proven equal, else by scikit-learn itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import pandas
import pytest
import skops.io
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from statsmodels.datasets import randhie

from setpoint.core import InvalidConfiguration, UntrustedFile
from setpoint.engines import EngineOptions, load_executable
from setpoint.formats import PackOptions, recognise
from setpoint.formats.base import PackedModel


def _visits() -> tuple[pandas.DataFrame, np.ndarray]:
    """The RAND health insurance experiment, its dummies turned back into the words they stand for."""
    raw = randhie.load_pandas().data[::10].reset_index(drop=True)
    health = np.select([raw.hlthg == 1, raw.hlthf == 1, raw.hlthp == 1], ["good", "fair", "poor"], "excellent")
    table = pandas.DataFrame(
        {
            "lncoins": raw.lncoins,
            "disea": raw.disea,
            "fmde": raw.fmde,
            "deductible": np.where(raw.idp == 1, "yes", "no").astype(object),
            "health": health.astype(object),
            "limited": raw.physlm > 0,
        }
    )
    return table, raw.mdvis.to_numpy()


TABLE, VISITS = _visits()
MANY = (VISITS > 2).astype(int)
NUMBERS, WORDS = ["lncoins", "disea", "fmde"], ["deductible", "health"]
HOLED = TABLE.copy()
HOLED.loc[::7, "disea"] = np.nan
HOLED.loc[::5, "health"] = np.nan


def encoded(numbers: Any, words: Any, model: Any) -> Any:
    return make_pipeline(ColumnTransformer([("numbers", numbers, NUMBERS), ("words", words, WORDS)]), model)


def full(model: Any) -> Any:
    """What most people would write for such a table."""
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    return encoded(numbers, words, model)


@pytest.fixture
def served(tmp_path: Path) -> Callable[..., tuple[PackedModel, Any]]:
    """``served(pipeline)`` packs it and loads it as a worker does."""
    loaded = []

    def serve(pipeline: Any, *, trust: bool = True, suffix: str = ".skops") -> tuple[PackedModel, Any]:
        source = tmp_path / f"visits{suffix}"
        skops.io.dump(pipeline, source) if suffix == ".skops" else joblib.dump(pipeline, source)
        work, folder = tmp_path / "work", tmp_path / "bundle"
        work.mkdir()
        folder.mkdir()
        packed = recognise(source).pack(source, PackOptions(trust=trust), work)
        for name, file in packed.files.items():
            (folder / name).write_bytes(file.read_bytes())
        executable = load_executable(packed.manifest.variants[0], folder, EngineOptions())
        loaded.append(executable)
        return packed, executable

    yield serve
    for executable in loaded:
        executable.close()


def plain(value: Any) -> Any:
    return None if value != value else value.item() if isinstance(value, np.generic) else value


def records(table: pandas.DataFrame) -> bytes:
    rows = [{name: plain(value) for name, value in row.items()} for row in table.to_dict("records")]
    return msgspec.json.encode({"records": rows})


def columns(table: pandas.DataFrame) -> bytes:
    lists = {name: [plain(value) for value in table[name].tolist()] for name in table}
    return msgspec.json.encode(lists)


def test_a_pipeline_of_words_and_numbers_becomes_onnx(served) -> None:
    pipeline = encoded(StandardScaler(), OneHotEncoder(handle_unknown="ignore"), LogisticRegression(max_iter=500))
    packed, executable = served(pipeline.fit(TABLE, MANY), trust=False)
    assert "model.onnx" in packed.files
    assert any("unknown words" in check for check in packed.manifest.lineage.checks)
    some = TABLE[NUMBERS + WORDS].head(40)
    (answer,) = executable.call("predict", [records(some)])
    answers = msgspec.json.decode(answer.body)
    assert [one["label"] for one in answers] == pipeline.predict(some).tolist()
    np.testing.assert_allclose([one["probabilities"] for one in answers], pipeline.predict_proba(some), atol=1e-6)


def test_missing_words_and_numbers_are_answered_by_scikit_learn(served) -> None:
    pipeline = full(RandomForestClassifier(20, random_state=0)).fit(HOLED, np.where(MANY, "many", "few"))
    packed, executable = served(pipeline)
    assert "model.skops" in packed.files
    assert any(
        check.startswith("served by scikit-learn itself: it cannot be converted to ONNX")
        for check in packed.manifest.lineage.checks
    )
    some = HOLED[NUMBERS + WORDS].head(40)
    for endpoint, body in (("predict", records(some)), ("columns", columns(some))):
        (answer,) = executable.call(endpoint, [body])
        answers = msgspec.json.decode(answer.body)
        assert [one["label"] for one in answers] == pipeline.predict(some).tolist()
        np.testing.assert_allclose([one["probabilities"] for one in answers], pipeline.predict_proba(some))


def test_a_missing_word_that_counts_as_unknown_needs_no_scikit_learn(served) -> None:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    pipeline = encoded(numbers, OneHotEncoder(handle_unknown="ignore"), LogisticRegression(max_iter=500))
    packed, executable = served(pipeline.fit(TABLE, MANY))
    assert "model.onnx" in packed.files, packed.manifest.lineage.checks
    some = HOLED[NUMBERS + WORDS].head(40)
    (answer,) = executable.call("predict", [records(some)])
    answers = msgspec.json.decode(answer.body)
    assert [one["label"] for one in answers] == pipeline.predict(some).tolist()
    np.testing.assert_allclose([one["probabilities"] for one in answers], pipeline.predict_proba(some), atol=1e-6)


def test_what_a_record_leaves_out_is_missing(served) -> None:
    pipeline = full(Ridge()).fit(HOLED, VISITS)
    _, executable = served(pipeline)
    some = HOLED[NUMBERS + WORDS].head(1).assign(disea=np.nan, health=np.nan)
    body = {"records": [{name: plain(some[name][0]) for name in ("lncoins", "fmde", "deductible")}]}
    (answer,) = executable.call("predict", [msgspec.json.encode(body)])
    assert msgspec.json.decode(answer.body)[0]["prediction"] == pytest.approx(pipeline.predict(some)[0])


def test_columns_are_tensors_too(served) -> None:
    pipeline = full(Ridge()).fit(HOLED, VISITS)
    packed, executable = served(pipeline)
    assert str(packed.manifest.signature) == (
        "lncoins FP64[-1], disea FP64[-1], fmde FP64[-1], deductible BYTES[-1], health BYTES[-1] → prediction FP64[-1]"
    )
    some = TABLE[NUMBERS + WORDS].head(9).assign(disea=np.nan)
    tensors = {name: some[name].to_numpy(np.float64) for name in NUMBERS}
    tensors |= {name: np.array([word.encode() for word in some[name]], object) for name in WORDS}
    np.testing.assert_allclose(executable.run(tensors)["prediction"], pipeline.predict(some))


def test_requests_are_answered_together_and_each_gets_its_own_error(served) -> None:
    pipeline = encoded(StandardScaler(), OneHotEncoder(), LogisticRegression(max_iter=500)).fit(TABLE, MANY)
    _, executable = served(pipeline)
    good = records(TABLE[NUMBERS + WORDS].head(2))
    bad = records(TABLE[NUMBERS + WORDS].head(1).assign(health="splendid"))
    misspelt = msgspec.json.encode({"records": [{"lnconis": 1.0}]})
    wrong = msgspec.json.encode({"records": [{"lncoins": "much"}]})
    answers = executable.call("predict", [good, bad, misspelt, wrong, good])
    assert [answer.ok for answer in answers] == [True, False, False, False, True]
    assert "no category that the model knows; look at deductible, health" in answers[1].message
    assert "records[0].lncoins: expected float | null, got str" in answers[3].message.replace("`", "")
    assert "unknown key 'lnconis'" in answers[2].message
    assert {answer.kind for answer in answers[1:4]} == {"invalid_request"}


def test_no_rows_have_no_answers(served) -> None:
    _, executable = served(full(Ridge()).fit(HOLED, VISITS))
    (answer,) = executable.call("predict", [b'{"records":[]}'])
    assert answer.body == b"[]"


def test_booleans_integers_ordinals_and_text_columns(served) -> None:
    table = TABLE.assign(visits=VISITS.astype(np.int64), note=[f"patient {word}" for word in TABLE.health])
    pipeline = make_pipeline(
        ColumnTransformer(
            [
                ("flags", OneHotEncoder(), ["limited"]),
                ("counts", OneHotEncoder(handle_unknown="ignore"), ["visits"]),
                ("order", OrdinalEncoder(), ["health"]),
                ("note", TfidfVectorizer(), "note"),
            ],
            remainder="drop",
        ),
        LogisticRegression(max_iter=500),
    ).fit(table, MANY)
    packed, executable = served(pipeline)
    assert str(packed.manifest.signature).startswith(
        "health BYTES[-1], limited BOOL[-1], visits INT64[-1], note BYTES[-1]"
    )
    some = table[["limited", "health", "visits", "note"]].head(20)
    (answer,) = executable.call("predict", [records(some)])
    assert [one["label"] for one in msgspec.json.decode(answer.body)] == pipeline.predict(some).tolist()


def test_columns_chosen_by_type_and_names_that_are_no_identifiers(served) -> None:
    table = TABLE[NUMBERS + WORDS].rename(columns={"health": "state of health", "disea": "class"})
    chosen = ColumnTransformer(
        [
            ("words", OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
            ("numbers", StandardScaler(), make_column_selector(dtype_include="number")),
        ]
    )
    pipeline = make_pipeline(chosen, HistGradientBoostingClassifier(max_iter=10)).fit(table, MANY)
    packed, executable = served(pipeline)
    assert [endpoint.name for endpoint in packed.manifest.endpoints] == ["predict"]
    some = table.head(20)
    (answer,) = executable.call("predict", [records(some)])
    assert [one["label"] for one in msgspec.json.decode(answer.body)] == pipeline.predict(some).tolist()


def test_a_transformer_gives_its_columns(served) -> None:
    pipeline = make_pipeline(ColumnTransformer([("words", OneHotEncoder(sparse_output=False), WORDS)])).fit(TABLE)
    _, executable = served(pipeline)
    (answer,) = executable.call("predict", [records(TABLE[WORDS].head(5))])
    expected = pipeline.transform(TABLE[WORDS].head(5))
    np.testing.assert_array_equal([one["prediction"] for one in msgspec.json.decode(answer.body)], expected)


def test_a_pickle_travels_as_it_is_where_it_was_trusted(served) -> None:
    pipeline = full(Ridge()).fit(HOLED, VISITS)
    with pytest.raises(UntrustedFile, match="is a pickle"):
        served(pipeline, trust=False, suffix=".joblib")


def test_a_trusted_pickle_is_served(served) -> None:
    pipeline = full(Ridge()).fit(HOLED, VISITS)
    packed, executable = served(pipeline, suffix=".joblib")
    assert "model.pkl" in packed.files
    (answer,) = executable.call("predict", [records(HOLED[NUMBERS + WORDS].head(3))])
    got = [one["prediction"] for one in msgspec.json.decode(answer.body)]
    np.testing.assert_allclose(got, pipeline.predict(HOLED[NUMBERS + WORDS].head(3)))


def test_a_wrong_graph_is_caught(served, monkeypatch: pytest.MonkeyPatch) -> None:
    from setpoint.formats import sklearn_table

    real = sklearn_table._graph

    def wrong(estimator: Any, shape: Any, title: str) -> bytes:
        other = encoded(StandardScaler(), OneHotEncoder(handle_unknown="ignore"), LogisticRegression(C=1e-3))
        return real(other.fit(TABLE, MANY), shape, title)

    monkeypatch.setattr(sklearn_table, "_graph", wrong)
    pipeline = encoded(StandardScaler(), OneHotEncoder(handle_unknown="ignore"), LogisticRegression(max_iter=500))
    packed, _ = served(pipeline.fit(TABLE, MANY))
    assert "model.onnx" not in packed.files
    assert any("differs from it" in check for check in packed.manifest.lineage.checks)


class Picky(TransformerMixin, BaseEstimator):
    """Takes nothing but what it was fitted with."""

    def fit(self, table: Any, target: Any = None) -> "Picky":
        self.seen_ = table
        return self

    def transform(self, table: Any) -> Any:
        if not table.equals(self.seen_):
            raise ValueError("I know other rows")
        return table


def test_a_pipeline_that_takes_no_made_up_row_is_refused_in_a_sentence(served) -> None:
    pipeline = make_pipeline(
        ColumnTransformer([("picky", Picky(), NUMBERS), ("words", OneHotEncoder(), WORDS)]), LogisticRegression()
    )
    with pytest.raises(InvalidConfiguration, match=r"takes none of the made-up rows of lncoins \(number\).*other rows"):
        served(pipeline.fit(TABLE, MANY), suffix=".joblib")


def test_the_same_file_gives_the_same_manifest(served, tmp_path: Path) -> None:
    packed, _ = served(full(Ridge()).fit(HOLED, VISITS))
    again = tmp_path / "again"
    again.mkdir()
    source = tmp_path / "visits.skops"
    repeated = recognise(source).pack(source, PackOptions(trust=True), again)
    assert repeated.manifest.to_json() == packed.manifest.to_json()
    assert {name: file.read_bytes() for name, file in repeated.files.items()} == {
        name: file.read_bytes() for name, file in packed.files.items()
    }


def test_function_transformers_keep_their_numbers(served) -> None:
    pipeline = encoded(FunctionTransformer(np.log1p), OneHotEncoder(handle_unknown="ignore"), Ridge())
    _, executable = served(pipeline.fit(TABLE, VISITS), suffix=".joblib")
    some = TABLE[NUMBERS + WORDS].head(3)
    (answer,) = executable.call("predict", [records(some)])
    np.testing.assert_allclose(
        [one["prediction"] for one in msgspec.json.decode(answer.body)], pipeline.predict(some), rtol=1e-4
    )
