"""NNCF's quantisation with accuracy control on an ONNX file; runs in the environment `optimize-nncf`.

    python nncf_control.py MODEL.onnx CALIBRATION.npz VALIDATION.npz accuracy|nearest OUT.onnx [--iterations 5]

The rows to validate with are those that judge afterwards, so the tool sees what it is judged by.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import onnx
import onnxruntime as ort
from nncf.quantization.advanced_parameters import AdvancedAccuracyRestorerParameters

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from models import nearest_is_of_the_same_module

ROWS_AT_ONCE = 16
VALIDATION_ROWS = 512
MAX_DROP = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("model", "calibration", "validation", "metric", "out"):
        parser.add_argument(name)
    parser.add_argument("--iterations", type=int, default=5)
    arguments = parser.parse_args()
    start_s = time.monotonic()
    model = onnx.load(arguments.model)
    calibration = batches(arguments.calibration)
    validation = batches(arguments.validation, VALIDATION_ROWS)

    def score(candidate: onnx.ModelProto, items: Iterable[Any]) -> tuple[float, list[float] | None]:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        session = ort.InferenceSession(candidate.SerializeToString(), options, providers=["CPUExecutionProvider"])
        outputs, labels = [], []
        for item in items:
            outputs.append(session.run(None, {key: value for key, value in item.items() if key != "label"})[0])
            labels.append(item["label"])
        answers, right = np.concatenate(outputs), np.concatenate(labels)
        if arguments.metric == "nearest":
            found = nearest_is_of_the_same_module({"embedding": answers}, right)
        else:
            found = (answers.argmax(axis=-1) == right).astype(np.float64)
        return float(found.mean()), [float(each) for each in found]

    quantized = nncf.quantize_with_accuracy_control(
        model,
        nncf.Dataset(calibration, without_label),
        nncf.Dataset(validation),
        score,
        max_drop=MAX_DROP,
        model_type=nncf.ModelType.TRANSFORMER if arguments.metric == "nearest" else None,
        advanced_accuracy_restorer_parameters=AdvancedAccuracyRestorerParameters(
            max_num_iterations=arguments.iterations, ranking_subset_size=128
        ),
    )
    onnx.save(quantized, arguments.out)
    print(json.dumps({"seconds": time.monotonic() - start_s, "version": nncf.__version__}))


def batches(place: str, most_rows: int = 1 << 30) -> list[dict[str, Any]]:
    """Rows of an `.npz` in batches."""
    with np.load(place) as archive:
        columns = {key: archive[key][:most_rows] for key in archive.files}
    rows = len(next(iter(columns.values())))
    return [
        {key: column[start : start + ROWS_AT_ONCE] for key, column in columns.items()}
        for start in range(0, rows, ROWS_AT_ONCE)
    ]


def without_label(item: dict[str, Any]) -> dict[str, Any]:
    """What the model takes."""
    return {key: value for key, value in item.items() if key != "label"}


if __name__ == "__main__":
    main()
