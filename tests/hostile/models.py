"""The two models under attack: a converted classifier, and a Python class whose code cannot fail."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

WORDS = '''"""Every kind of endpoint, and nothing in it that could fail."""
from collections.abc import Iterator

import setpoint as sp


class Words(sp.Model):
    @sp.endpoint(batch=64)
    def lengths(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]

    @sp.endpoint
    def join(self, words: list[str], separator: str = " ") -> str:
        return separator.join(words)

    @sp.endpoint
    def split(self, text: str) -> Iterator[str]:
        yield from text.split()[:50]

    @sp.endpoint
    def size(self, data: bytes) -> int:
        return len(data)
'''


@dataclass(frozen=True)
class Iris:
    """Rows of the iris data and what scikit-learn says of them.

    Attributes:
        rows: float32 [150, 4].
        labels: int64 [150].
        probabilities: float64 [150, 3].
    """

    rows: NDArray[np.float32]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    def choose(self, rng: random.Random, most: int = 3) -> list[int]:
        """Some rows."""
        return [rng.randrange(len(self.rows)) for _ in range(rng.randint(1, most))]

    def complaint(self, answer: dict[str, Any], chosen: list[int]) -> str:
        """What is wrong with a decoded V2 answer for these rows; empty when it is right."""
        outputs = {output["name"]: output for output in answer["outputs"]}
        if set(outputs) != {"label", "probabilities"}:
            return f"outputs {sorted(outputs)}"
        labels, probabilities = outputs["label"], outputs["probabilities"]
        if labels["shape"] != [len(chosen)] or probabilities["shape"] != [len(chosen), 3]:
            return f"shapes {labels['shape']} and {probabilities['shape']} for {len(chosen)} rows"
        if labels["data"] != self.labels[chosen].tolist():
            return f"labels {labels['data']}, expected {self.labels[chosen].tolist()}"
        difference = np.abs(np.array(probabilities["data"]).reshape(-1, 3) - self.probabilities[chosen]).max()
        return f"probabilities are off by {difference}" if difference > 1e-5 else ""


def train_iris() -> tuple[onnx.ModelProto, Iris]:
    """A logistic regression of the iris data, as ONNX and with its own answers."""
    from skl2onnx import to_onnx
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    features, target = load_iris(return_X_y=True)
    features = features.astype(np.float32)
    model = LogisticRegression(max_iter=1000).fit(features, target)
    graph = to_onnx(model, features[:1], options={"zipmap": False})
    return graph, Iris(features, model.predict(features), model.predict_proba(features))
