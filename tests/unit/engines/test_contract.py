"""Every engine keeps the contract, on a model of its own kind trained on real data."""

from pathlib import Path

import catboost
import lightgbm
import numpy as np
import onnx
import openvino
import pytest
import xgboost
from sklearn.datasets import load_iris

from digits_files import DIGITS, LEARNT, digits_graph, ort_file
from engine_contract import EngineContract
from setpoint.core import InvalidConfiguration, InvalidRequest, TensorSpec
from tflite_files import dense_softmax

IRIS, SPECIES = load_iris(return_X_y=True)


def repeated(table: np.ndarray, rows: int) -> np.ndarray:
    return np.resize(table, (rows, *table.shape[1:])).astype(np.float32)


class Digits(EngineContract):
    """Logistic regression on 8x8 digits, in whichever file."""

    def inputs(self, rows: int) -> dict[str, np.ndarray]:
        return {"image": repeated(DIGITS, rows)}

    def expected(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        image = inputs["image"]
        return {"probabilities": LEARNT.predict_proba(image) if len(image) else np.empty((0, 10))}

    def outputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("probabilities", "FP32", (-1, 10)),)


class TestOnnxruntime(Digits):
    engine = "onnxruntime"

    def make(self, folder: Path) -> Path:
        onnx.save(digits_graph(), folder / "digits.onnx")
        return folder / "digits.onnx"


class TestOrtFiles(Digits):
    engine = "onnxruntime"

    def make(self, folder: Path) -> Path:
        return ort_file(folder)


class TestOpenvino(Digits):
    engine = "openvino"
    most_idle_threads = 3  # its own schedulers, which sleep between compilations

    def make(self, folder: Path) -> Path:
        onnx.save(digits_graph(), folder / "digits.onnx")
        openvino.save_model(openvino.Core().read_model(folder / "digits.onnx"), folder / "digits.xml", False)
        return folder / "digits.xml"


class TestLitert(Digits):
    engine = "litert"
    entry = "free-rows"

    def make(self, folder: Path) -> Path:
        content = dense_softmax("image", "probabilities", LEARNT.coef_, LEARNT.intercept_)
        (folder / "digits.tflite").write_bytes(content)
        return folder / "digits.tflite"


class Species(EngineContract):
    """A boosted classifier of irises."""

    def inputs(self, rows: int) -> dict[str, np.ndarray]:
        return {"X": repeated(IRIS, rows)}

    def expected(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows = inputs["X"]
        probabilities = self.learnt.predict_proba(rows) if len(rows) else np.empty((0, 3))
        return {"label": probabilities.argmax(axis=1), "probabilities": probabilities}

    def outputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 3)))


class TestXgboost(Species):
    engine = "xgboost"
    learnt = xgboost.XGBClassifier(n_estimators=9, n_jobs=1).fit(IRIS, SPECIES)

    def make(self, folder: Path) -> Path:
        self.learnt.save_model(folder / "model.ubj")
        return folder / "model.ubj"


class TestLightgbm(Species):
    engine = "lightgbm"
    learnt = lightgbm.LGBMClassifier(n_estimators=9, verbose=-1, n_jobs=1).fit(IRIS, SPECIES)

    def make(self, folder: Path) -> Path:
        self.learnt.booster_.save_model(folder / "model.txt")
        return folder / "model.txt"

    def expected(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows = inputs["X"]
        probabilities = self.learnt.booster_.predict(rows) if len(rows) else np.empty((0, 3))
        return {"label": probabilities.argmax(axis=1), "probabilities": probabilities}


class TestCatboost(Species):
    engine = "catboost"
    learnt = catboost.CatBoostClassifier(iterations=9, verbose=0, allow_writing_files=False, thread_count=1)
    learnt.fit(IRIS, SPECIES)

    def make(self, folder: Path) -> Path:
        self.learnt.save_model(folder / "model.cbm")
        return folder / "model.cbm"


class TestCatboostWords(EngineContract):
    """Features by name, one of them text."""

    engine = "catboost"
    has_text = True
    words = np.array(["small", "large"])[(IRIS[:, 0] > 5.8).astype(int)]
    learnt = catboost.CatBoostClassifier(iterations=9, verbose=0, allow_writing_files=False, thread_count=1)
    learnt.fit(
        catboost.Pool(
            [[word, float(length)] for word, length in zip(words.tolist(), IRIS[:, 2].tolist(), strict=True)],
            SPECIES,
            cat_features=[0],
            feature_names=["size", "petal"],
        )
    )

    def make(self, folder: Path) -> Path:
        self.learnt.save_model(folder / "model.cbm")
        return folder / "model.cbm"

    def inputs(self, rows: int) -> dict[str, np.ndarray]:
        words = np.empty(rows, object)
        words[:] = [word.encode() for word in np.resize(self.words, rows).tolist()]
        return {"size": words, "petal": np.resize(IRIS[:, 2], rows).astype(np.float32)}

    def expected(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        table = [[word.decode(), petal] for word, petal in zip(inputs["size"], inputs["petal"].tolist(), strict=True)]
        probabilities = self.learnt.predict_proba(table) if table else np.empty((0, 3))
        return {"label": probabilities.argmax(axis=1), "probabilities": probabilities}

    def outputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 3)))

    def wrong(self) -> dict[str, np.ndarray]:
        return {"size": self.inputs(2)["size"], "petal": np.array(["much", "more"], object)}


class TestPython(EngineContract):
    engine = "python"
    entry = "Echo"
    has_text = True
    absent_device = None

    def make(self, folder: Path) -> Path:
        (folder / "model.py").write_text(
            "import setpoint as sp\n\n"
            "class Echo(sp.Model):\n"
            "    @sp.endpoint(batch=64)\n"
            "    def shout(self, texts: list[str], times: list[int]) -> list[str]:\n"
            "        return [text.upper() * count for text, count in zip(texts, times, strict=True)]\n"
        )
        return folder / "model.py"

    def inputs(self, rows: int) -> dict[str, np.ndarray]:
        texts = np.empty(rows, object)
        texts[:] = [f"grüezi {row}".encode() for row in range(rows)]
        return {"texts": texts, "times": np.arange(rows, dtype=np.int64) % 3}

    def expected(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        shouted = np.empty(len(inputs["texts"]), object)
        pairs = zip(inputs["texts"].tolist(), inputs["times"].tolist(), strict=True)
        shouted[:] = [text.decode().upper().encode() * times for text, times in pairs]
        return {"output": shouted}

    def outputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("output", "BYTES", (-1,)),)

    def test_a_class_is_told_what_was_asked_for(self, tmp_path: Path) -> None:
        (tmp_path / "model.py").write_text(
            "import setpoint as sp\n\n"
            "class Echo(sp.Model):\n"
            "    def load(self, ctx):\n"
            "        self.devices = list(ctx.devices)\n\n"
            "    @sp.endpoint\n"
            "    def on(self) -> list[str]:\n"
            "        return self.devices\n"
        )
        executable = self.load(tmp_path / "model.py", device="CUDA, cpu")
        assert executable.device == "cuda"
        assert [answer.body for answer in executable.call("on", [b"{}"])] == [b'["cuda","cpu"]']  # type: ignore[attr-defined]
        executable.close()

    def test_its_model_files_are_on_the_device_and_refuse_an_absent_one(self, tmp_path: Path) -> None:
        onnx.save(digits_graph(), tmp_path / "digits.onnx")
        (tmp_path / "model.py").write_text(
            "import setpoint as sp\n\n"
            "class Echo(sp.Model):\n"
            "    digits = sp.uses('digits.onnx')\n\n"
            "    @sp.endpoint\n"
            "    def names(self) -> list[str]:\n"
            "        return ['digits']\n"
        )
        with pytest.raises(InvalidConfiguration, match=r"the onnxruntime engine here computes on cpu"):
            self.load(tmp_path / "model.py", device="cuda")
        executable = self.load(tmp_path / "model.py", device="cuda,cpu")
        assert executable.device == "cpu"
        executable.close()

    def test_errors_are_one_line_and_the_next_run_is_right(self, executable) -> None:
        """What does not fit is the client's mistake here, not the model's."""
        with pytest.raises(InvalidRequest, match="missing input 'times'"):
            executable.run({"texts": self.inputs(2)["texts"]})
