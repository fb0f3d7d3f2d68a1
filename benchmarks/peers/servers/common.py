"""What every peer's server shares: its configuration (from the environment) and the onnxruntime session.

The configuration comes from environment variables because most peers start their workers as fresh processes, and
the environment is the one thing that reaches all of them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

DTYPES: dict[str, npt.DTypeLike] = {
    "features": np.float32,
    "image": np.float32,
    "input_ids": np.int64,
    "attention_mask": np.int64,
}


@dataclass(frozen=True)
class Config:
    """One server's settings; see `lineup.py` for the values and the reasons."""

    workload: str
    model_path: str
    port: int
    workers: int
    threads: int
    batch_rows: int
    window_ms: float
    latency_ms: int

    @classmethod
    def from_environment(cls) -> Config:
        """Read the PEER_* variables that the harness sets; KeyError when one is missing."""
        return cls(
            workload=os.environ["PEER_WORKLOAD"],
            model_path=os.environ["PEER_MODEL"],
            port=int(os.environ["PEER_PORT"]),
            workers=int(os.environ["PEER_WORKERS"]),
            threads=int(os.environ["PEER_THREADS"]),
            batch_rows=int(os.environ["PEER_BATCH_ROWS"]),
            window_ms=float(os.environ["PEER_WINDOW_MS"]),
            latency_ms=int(os.environ.get("PEER_LATENCY_MS", "60000")),
        )


class Engine:
    """An onnxruntime session with a stated number of threads; everything else is onnxruntime's default."""

    def __init__(self, config: Config) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = config.threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(config.model_path, options, providers=["CPUExecutionProvider"])
        self.input_names = [node.name for node in self.session.get_inputs()]
        self.output_names = [node.name for node in self.session.get_outputs()]

    def columns(self, rows: list[dict[str, Any]]) -> dict[str, npt.NDArray[Any]]:
        """Stack rows of JSON values into one array per model input, first axis the batch."""
        return {name: np.array([row[name] for row in rows], dtype=DTYPES[name]) for name in self.input_names}

    def run(self, columns: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Run the model; one array per output, in the order of `output_names`."""
        outputs: list[npt.NDArray[Any]] = self.session.run(None, columns)
        return outputs

    def rows(self, outputs: list[npt.NDArray[Any]]) -> list[dict[str, Any]]:
        """Split the outputs into one JSON-ready dict per row."""
        columns = [output.tolist() for output in outputs]
        return [dict(zip(self.output_names, values, strict=True)) for values in zip(*columns, strict=True)]
