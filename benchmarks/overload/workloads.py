"""What is served under load: two models, their requests in each server's dialect, their objectives."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PEERS = Path(__file__).resolve().parents[1] / "peers"
sys.path.insert(0, str(PEERS))

from environments import ensure_model  # noqa: E402
from lineup import BUILD, REPOSITORY  # noqa: E402
from lineup import WORK as PEERS_WORK  # noqa: E402

WORK = BUILD / "overload"
IMAGES = 48


@dataclass(frozen=True)
class Workload:
    """One model under load.

    Attributes:
        model: the ONNX file.
        bound_ms: the objective's.
        drop_percent: what cheaper variants may lose.
        optimize: further arguments of ``setpoint optimize``.
        rows: inputs of single rows, by name, nested as the model takes them but for the batch axis.
        datatypes: V2's, by input.
    """

    name: str
    model: Path
    bound_ms: int
    drop_percent: float
    optimize: tuple[str, ...]
    rows: list[dict[str, Any]]
    datatypes: dict[str, str]

    def bodies(self, dialect: str) -> Path:
        """A file with one JSON body a line."""
        path = WORK / f"{self.name}-{dialect}.jsonl"
        path.write_text("\n".join(json.dumps(self._body(row, dialect), separators=(",", ":")) for row in self.rows))
        return path

    def _body(self, row: dict[str, Any], dialect: str) -> Any:
        if dialect == "v2":
            tensors = [
                {"name": name, "shape": [1, *_shape(value)], "datatype": self.datatypes[name], "data": [value]}
                for name, value in row.items()
            ]
            return {"inputs": tensors}
        if dialect == "batch-of-one":
            return {"rows": [next(iter(row.values())) if len(row) == 1 else row]}
        return row


def _shape(value: Any) -> list[int]:
    return [len(value), *_shape(value[0])] if isinstance(value, list) else []


def minilm() -> Workload:
    """all-MiniLM-L6-v2 on 32 tokens."""
    ensure_model("minilm")
    cases = json.loads((PEERS_WORK / "models" / "minilm.cases.json").read_text())
    model = PEERS_WORK / "models" / "minilm.onnx"
    rows = [case["inputs"] for case in cases]
    return Workload("minilm", model, 60, 3.0, ("--length", "32", "--accept-made-up"), rows, cases[0]["datatypes"])


def digits() -> Workload:
    """A convolution network on 8 x 8 digits, wide enough to need one or two milliseconds a row."""
    import numpy as np

    folder = WORK / "digits"
    if not (folder / "cnn.onnx").exists():
        script = REPOSITORY / "examples" / "digits" / "build_cnn.py"
        subprocess.run(
            [sys.executable, str(script), str(folder), "--channels", "256", "512", "--epochs", "2"], check=True
        )
    images = np.load(folder / "labelled.npz")["image"][:IMAGES]
    rows = [{"image": image.round(4).tolist()} for image in images]
    data = ("--data", str(folder / "labelled.npz"))
    return Workload("digits", folder / "cnn.onnx", 40, 1.0, data, rows, {"image": "FP32"})


WORKLOADS = {"minilm": minilm, "digits": digits}
