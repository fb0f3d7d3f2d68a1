"""Boosted trees: recognised by content, converted where proven equal, else served by the library itself."""

import json
from collections.abc import Callable
from pathlib import Path

import catboost
import lightgbm
import numpy as np
import pytest
import xgboost
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

from setpoint.core import ConfigurationError, ConversionMismatch, InvalidConfiguration, UnknownFormat
from setpoint.engines import EngineOptions, load_executable
from setpoint.formats import PackOptions, booster, forest, pack_isolated, recognise
from setpoint.formats.base import PackedModel
from setpoint.formats.choice import Comparison, Timed
from setpoint.registry import Registry, pack_source

CANCER = load_breast_cancer(return_X_y=True)
IRIS = load_iris(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)
RANDOM = np.random.default_rng(0)

Pack = Callable[..., PackedModel]
DEFAULTS = PackOptions()


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pack:
    """Packs where ONNX is twice as quick, or as the test says: no test depends on how quick this machine is."""

    def packed(source: Path, options: PackOptions = DEFAULTS, native_takes: float = 2.0) -> PackedModel:
        workdir = tmp_path / "work"
        workdir.mkdir(exist_ok=True)

        def measured(first, second, sizes) -> Comparison:
            for rows in sizes:  # both do run
                first(rows)
                second(rows)
            return Comparison(tuple(Timed(rows, 1.0, native_takes, native_takes) for rows in sizes))

        monkeypatch.setattr(booster, "compare_speed", measured)
        return recognise(source).pack(source, options, workdir)

    return packed


def serve(packed: PackedModel, tmp_path: Path, rows: np.ndarray) -> dict[str, np.ndarray]:
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name, file in packed.files.items():
        (folder / name).write_bytes(file.read_bytes())
    executable = load_executable(packed.manifest.variants[0], folder, EngineOptions())
    return executable.run({"X": rows.astype(np.float32)})


def xgboost_file(tmp_path: Path, model: xgboost.XGBModel, data: tuple, suffix: str = ".ubj") -> Path:
    model.fit(*data).save_model(tmp_path / f"model{suffix}")
    return (tmp_path / f"model{suffix}").rename(tmp_path / "model.bin")  # the content tells, not the suffix


@pytest.mark.parametrize("suffix", [".json", ".ubj"])
def test_xgboost_classifiers_become_onnx(tmp_path: Path, pack: Pack, suffix: str) -> None:
    model = xgboost.XGBClassifier(n_estimators=20)
    packed = pack(xgboost_file(tmp_path, model, CANCER, suffix))
    assert packed.manifest.lineage.format == "xgboost"
    assert packed.manifest.variants[0].engine == "onnxruntime"
    answers = serve(packed, tmp_path, CANCER[0])
    assert answers["label"].tolist() == model.predict(CANCER[0].astype(np.float32)).tolist()
    np.testing.assert_allclose(answers["probabilities"], model.predict_proba(CANCER[0].astype(np.float32)), atol=1e-5)


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (xgboost.XGBClassifier(n_estimators=9), IRIS),
        (xgboost.XGBClassifier(n_estimators=9, booster="dart", rate_drop=0.5), IRIS),
        (xgboost.XGBRegressor(n_estimators=9), DIABETES),
        (xgboost.XGBRegressor(n_estimators=9, objective="count:poisson"), DIABETES),
        (xgboost.XGBRegressor(n_estimators=9, objective="reg:absoluteerror"), DIABETES),
        (xgboost.XGBRegressor(n_estimators=9, max_depth=0, max_leaves=1), DIABETES),
        (xgboost.XGBRFRegressor(n_estimators=9), DIABETES),
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'objective', '')}" if hasattr(value, "fit") else "",
)
def test_xgboost_models_are_proven_equal(tmp_path: Path, pack: Pack, model: xgboost.XGBModel, data: tuple) -> None:
    packed = pack(xgboost_file(tmp_path, model, data))
    assert packed.manifest.variants[0].engine == "onnxruntime", packed.manifest.lineage.checks
    answers = serve(packed, tmp_path, data[0])
    expected = model.predict(data[0].astype(np.float32))
    np.testing.assert_allclose(answers.get("label", answers.get("prediction")), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (xgboost.XGBRegressor(n_estimators=5, booster="gblinear"), "a gblinear booster has no trees"),
        (xgboost.XGBRegressor(n_estimators=5, objective="survival:aft"), "the objective survival:aft has no exact"),
    ],
)
def test_what_no_graph_says_is_served_by_xgboost(tmp_path: Path, pack: Pack, model: xgboost.XGBModel, why: str) -> None:
    data = (DIABETES[0], DIABETES[1])
    if model.objective == "survival:aft":
        matrix = xgboost.DMatrix(data[0], label_lower_bound=data[1], label_upper_bound=data[1])
        xgboost.train({"objective": "survival:aft"}, matrix, 5).save_model(tmp_path / "m.ubj")
        path, expected = (
            tmp_path / "m.ubj",
            xgboost.Booster(model_file=tmp_path / "m.ubj").inplace_predict(data[0].astype(np.float32)),
        )
    else:
        path = xgboost_file(tmp_path, model, data)
        expected = model.predict(data[0].astype(np.float32))
    packed = pack(path)
    assert packed.manifest.variants[0].engine == "xgboost"
    assert any(why in check for check in packed.manifest.lineage.checks)
    np.testing.assert_allclose(serve(packed, tmp_path, data[0])["prediction"], expected, rtol=1e-5)


def test_several_targets_and_categories_are_served_by_xgboost(tmp_path: Path, pack: Pack) -> None:
    targets = np.stack([DIABETES[1], -DIABETES[1]], axis=1)
    model = xgboost.XGBRegressor(n_estimators=5, multi_strategy="multi_output_tree")
    packed = pack(xgboost_file(tmp_path, model, (DIABETES[0], targets)))
    assert packed.manifest.variants[0].engine == "xgboost"
    np.testing.assert_allclose(
        serve(packed, tmp_path, DIABETES[0])["prediction"], model.predict(DIABETES[0].astype(np.float32)), rtol=1e-5
    )


def test_a_categorical_split_is_served_by_xgboost(tmp_path: Path, pack: Pack) -> None:
    rows = np.column_stack([RANDOM.integers(0, 8, 400), RANDOM.standard_normal(400)])
    matrix = xgboost.DMatrix(
        rows, np.isin(rows[:, 0], [1, 4, 6]), feature_types=["c", "float"], enable_categorical=True
    )
    model = xgboost.train({"objective": "binary:logistic", "max_cat_to_onehot": 1}, matrix, 5)
    model.save_model(tmp_path / "model.json")
    packed = pack(tmp_path / "model.json")
    assert packed.manifest.variants[0].engine == "xgboost"
    answers = serve(packed, tmp_path, rows)
    np.testing.assert_allclose(answers["probabilities"][:, 1], model.predict(matrix), atol=1e-6)


def test_early_stopping_answers_with_the_best_rounds(tmp_path: Path, pack: Pack) -> None:
    half = len(DIABETES[0]) // 2
    model = xgboost.XGBRegressor(n_estimators=200, early_stopping_rounds=3)
    model.fit(
        DIABETES[0][:half], DIABETES[1][:half], eval_set=[(DIABETES[0][half:], DIABETES[1][half:])], verbose=False
    )
    model.save_model(tmp_path / "model.json")
    packed = pack(tmp_path / "model.json")
    assert any("stopped early" in check for check in packed.manifest.lineage.checks)
    np.testing.assert_allclose(
        serve(packed, tmp_path, DIABETES[0])["prediction"], model.predict(DIABETES[0].astype(np.float32)), rtol=1e-4
    )


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (lightgbm.LGBMClassifier(n_estimators=20, verbose=-1), CANCER),
        (lightgbm.LGBMClassifier(n_estimators=9, verbose=-1), IRIS),
        (lightgbm.LGBMClassifier(n_estimators=9, verbose=-1, objective="multiclassova"), IRIS),
        (lightgbm.LGBMRegressor(n_estimators=20, verbose=-1), DIABETES),
        (lightgbm.LGBMRegressor(n_estimators=20, verbose=-1, objective="poisson"), DIABETES),
        (
            lightgbm.LGBMRegressor(
                n_estimators=20, verbose=-1, boosting_type="rf", bagging_freq=1, bagging_fraction=0.5
            ),
            DIABETES,
        ),
    ],
    ids=lambda value: f"{type(value).__name__} {value.objective}" if hasattr(value, "fit") else "",
)
def test_lightgbm_models_are_proven_equal(tmp_path: Path, pack: Pack, model, data: tuple) -> None:
    model.fit(*data).booster_.save_model(tmp_path / "model.txt")
    packed = pack(tmp_path / "model.txt")
    assert packed.manifest.lineage.format == "lightgbm"
    assert packed.manifest.variants[0].engine == "onnxruntime", packed.manifest.lineage.checks
    answers = serve(packed, tmp_path, data[0])
    rows = data[0].astype(np.float32)
    expected = model.predict_proba(rows) if "label" in answers else model.predict(rows)
    np.testing.assert_allclose(answers.get("probabilities", answers.get("prediction")), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"categorical_feature": [0]}, "categorical splits"),
        ({"linear_tree": True}, "linear trees"),
        ({"zero_as_missing": True}, "take zero as missing"),
    ],
)
def test_what_no_graph_says_is_served_by_lightgbm(tmp_path: Path, pack: Pack, settings: dict, why: str) -> None:
    rows = np.column_stack(
        [RANDOM.integers(0, 8, 900), RANDOM.standard_normal((900, 2)) * (RANDOM.random((900, 2)) < 0.7)]
    )
    target = np.isin(rows[:, 0], [1, 4, 6]) * 2.0 + rows[:, 1] + (rows[:, 2] == 0)
    trained = lightgbm.train({"objective": "regression", "verbose": -1, **settings}, lightgbm.Dataset(rows, target), 9)
    trained.save_model(tmp_path / "model.txt")
    packed = pack(tmp_path / "model.txt")
    assert packed.manifest.variants[0].engine == "lightgbm"
    assert any(why in check for check in packed.manifest.lineage.checks), packed.manifest.lineage.checks
    rows = rows.astype(np.float32)
    np.testing.assert_allclose(serve(packed, tmp_path, rows)["prediction"], trained.predict(rows), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (catboost.CatBoostClassifier, CANCER),
        (catboost.CatBoostClassifier, IRIS),
        (catboost.CatBoostClassifier, (IRIS[0], np.array(["setosa", "versicolor", "virginica"])[IRIS[1]])),
        (catboost.CatBoostRegressor, DIABETES),
    ],
)
def test_catboost_models_are_proven_equal(tmp_path: Path, pack: Pack, model, data: tuple) -> None:
    trained = model(iterations=20, verbose=0, allow_writing_files=False, thread_count=1).fit(*data)
    trained.save_model(tmp_path / "model.cbm")
    packed = pack(tmp_path / "model.cbm")
    assert packed.manifest.lineage.format == "catboost"
    assert packed.manifest.variants[0].engine == "onnxruntime", packed.manifest.lineage.checks
    answers = serve(packed, tmp_path, data[0])
    rows = data[0].astype(np.float32)
    if "label" in answers:
        expected = [str(label) for label in trained.predict(rows).reshape(-1)]
        assert [label.decode() if isinstance(label, bytes) else str(label) for label in answers["label"]] == expected
        np.testing.assert_allclose(answers["probabilities"], trained.predict_proba(rows), atol=1e-5)
    else:
        np.testing.assert_allclose(answers["prediction"], trained.predict(rows), rtol=1e-4)


def test_catboost_with_categories_takes_columns_by_name(tmp_path: Path, pack: Pack) -> None:
    cities = np.array(["Bern", "Basel", "Chur"])[RANDOM.integers(0, 3, 300)]
    ages = RANDOM.integers(18, 90, 300).astype(np.float32)
    table = [[city, age] for city, age in zip(cities.tolist(), ages.tolist(), strict=True)]
    target = ((cities == "Bern") ^ (ages > 50)).astype(int)
    trained = catboost.CatBoostClassifier(iterations=20, verbose=0, allow_writing_files=False)
    trained.fit(catboost.Pool(table, target, cat_features=[0], feature_names=["city", "age"]))
    trained.save_model(tmp_path / "model.cbm")
    packed = pack(tmp_path / "model.cbm")
    assert str(packed.manifest.signature).startswith("city BYTES[-1], age FP32[-1] → label INT64[-1]")
    executable = load_executable(packed.manifest.variants[0], next(iter(packed.files.values())).parent, EngineOptions())
    encoded = np.array([city.encode() for city in cities], object)
    answers = executable.run({"city": encoded, "age": ages})
    np.testing.assert_allclose(answers["probabilities"], trained.predict_proba(table), atol=1e-6)


def test_the_same_file_gives_the_same_graph(tmp_path: Path, pack: Pack) -> None:
    path = xgboost_file(tmp_path, xgboost.XGBClassifier(n_estimators=3), IRIS)
    first = pack(path)
    (graph,) = first.files.values()
    content = graph.read_bytes()
    assert pack(path).manifest.to_json() == first.manifest.to_json()
    assert graph.read_bytes() == content


@pytest.mark.parametrize(("native_takes", "engine"), [(0.5, "xgboost"), (0.85, "xgboost"), (0.95, "onnxruntime")])
def test_the_quicker_of_two_equal_forms_answers(tmp_path: Path, pack: Pack, native_takes: float, engine: str) -> None:
    """And ONNX where the library is hardly quicker. Both numbers stand in the lineage either way."""
    packed = pack(xgboost_file(tmp_path, xgboost.XGBClassifier(n_estimators=3), IRIS), native_takes=native_takes)
    assert packed.manifest.variants[0].engine == engine
    (told,) = [check for check in packed.manifest.lineage.checks if "measured" in check]
    assert f"1 row 1 ms as ONNX and {native_takes:g} ms in xgboost, 64 rows 1 ms as ONNX and" in told
    assert any("converted answers" in check for check in packed.manifest.lineage.checks)


@pytest.mark.parametrize(("asked", "engine"), [("native", "xgboost"), ("onnx", "onnxruntime")])
def test_one_of_the_forms_may_be_asked_for(tmp_path: Path, pack: Pack, asked: str, engine: str) -> None:
    path = xgboost_file(tmp_path, xgboost.XGBClassifier(n_estimators=3), IRIS)
    packed = pack(path, PackOptions(engine=asked), native_takes=2.0 if asked == "native" else 0.5)
    assert packed.manifest.variants[0].engine == engine
    assert not [check for check in packed.manifest.lineage.checks if "measured" in check]


def test_a_form_that_there_is_not_is_refused(tmp_path: Path, pack: Pack) -> None:
    path = xgboost_file(tmp_path, xgboost.XGBRegressor(n_estimators=5, booster="gblinear"), DIABETES)
    with pytest.raises(InvalidConfiguration, match="--engine onnx: a gblinear booster has no trees"):
        pack(path, PackOptions(engine="onnx"))
    with pytest.raises(InvalidConfiguration, match="engine 'tvm': expected native or onnx"):
        PackOptions(engine="tvm")


def test_the_same_file_gives_the_same_bundle_though_times_differ(tmp_path: Path) -> None:
    """Really measured: what was measured once is remembered beside the registry."""
    path = xgboost_file(tmp_path, xgboost.XGBClassifier(n_estimators=3), IRIS)
    registry = Registry(tmp_path / "home")
    first, created = pack_source(path, name="m", registry=registry)
    assert created
    assert pack_source(path, name="m", registry=registry) == (first, False)
    assert any("measured with 1 thread: 1 row " in check for check in first.manifest.lineage.checks)


@pytest.mark.parametrize("mistake", ["comparison", "missing", "base", "link"])
def test_a_wrong_conversion_is_caught(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    """The planted mistakes are those that converters make; each is off for a few rows only."""
    real = forest.to_onnx

    def wrong(trees: forest.Forest, task, name: str):
        changed = {
            "comparison": {"comparison": "BRANCH_LEQ"},
            "missing": {"trees": [_flipped(tree) for tree in trees.trees]},
            "base": {"base": [value + 0.01 for value in trees.base]},
            "link": {"link": "identity"},
        }[mistake]
        return real(forest.msgspec.structs.replace(trees, **changed), task, name)

    monkeypatch.setattr("setpoint.formats.xgboost.to_onnx", wrong)
    packed = pack(xgboost_file(tmp_path, xgboost.XGBClassifier(n_estimators=20), CANCER))
    assert packed.manifest.variants[0].engine == "xgboost"
    assert any("its ONNX conversion is not equal" in check for check in packed.manifest.lineage.checks)


def _flipped(tree: forest.Tree) -> forest.Tree:
    return forest.msgspec.structs.replace(tree, missing_goes_yes=[not way for way in tree.missing_goes_yes])


def test_proof_names_the_output_and_how_far_it_is_off() -> None:
    rows = {"X": np.ones((9, 2), np.float32)}
    with pytest.raises(ConversionMismatch, match=r"the twin differs from it: y: 100\.0% of 9 rows differ.*; do this"):
        booster.prove(
            lambda arrays: {"y": arrays["X"]},
            lambda arrays: {"y": arrays["X"] * np.float32(1.01)},
            [booster.Trial(rows, "ones")],
            "the twin",
            remedy="do this",
        )


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("kind", ["json", "ubj", "txt", "cbm"])
def test_half_a_file_is_refused_in_a_sentence(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / f"model.{kind}"
    if kind in ("json", "ubj"):
        xgboost.XGBClassifier(n_estimators=5).fit(*IRIS).save_model(path)
    elif kind == "txt":
        lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(*IRIS).booster_.save_model(path)
    else:
        catboost.CatBoostClassifier(iterations=5, verbose=0, allow_writing_files=False).fit(*IRIS).save_model(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ConfigurationError) as caught:
        pack_isolated(path, PackOptions(), tmp_path)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_other_json_is_not_taken_for_a_booster(tmp_path: Path) -> None:
    for content in ({"learner": 1}, {"version": [1, 2], "name": "app"}, [1, 2]):
        path = tmp_path / "other.json"
        path.write_text(json.dumps(content))
        with pytest.raises(UnknownFormat):
            recognise(path)
