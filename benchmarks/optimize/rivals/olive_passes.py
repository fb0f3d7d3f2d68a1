"""Olive's quantisation passes on an ONNX file; runs in the environment `optimize-olive`.

    python olive_passes.py MODEL.onnx CALIBRATION.npz OUT_FOLDER [--transformer HEADS HIDDEN]

Writes `olive-dynamic.onnx` and `olive-static.onnx`: Olive's own defaults for 8 bits on this processor, after its
transformer optimisation where the model is one and Olive can quantise what that leaves.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

os.environ["OLIVE_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
from olive.data.registry import Registry

ROWS_AT_ONCE = 16


class Rows:
    """Rows of an `.npz`, one at a time, as Olive takes them: inputs by name, and a label that nobody reads."""

    def __init__(self, place: str) -> None:
        with np.load(place) as archive:
            self._columns = {key: archive[key] for key in archive.files if key != "label"}

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def __getitem__(self, index: int) -> tuple[dict[str, Any], int]:
        return {key: column[index] for key, column in self._columns.items()}, 0


@Registry.register_dataset()
def rows_of_npz(place: str, **_: Any) -> Rows:
    """Named in the workflow below."""
    return Rows(place)


def workflow(model: str, passes: dict[str, Any], calibration: str, out: Path) -> dict[str, Any]:
    """Passes one after another, on this processor."""
    return {
        "input_model": {"type": "ONNXModel", "model_path": model},
        "systems": {
            "here": {
                "type": "LocalSystem",
                "accelerators": [{"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}],
            }
        },
        "data_configs": [
            {
                "name": "rows",
                "user_script": str(Path(__file__).resolve()),
                "load_dataset_config": {"type": "rows_of_npz", "place": calibration},
                "dataloader_config": {"batch_size": ROWS_AT_ONCE},
            }
        ],
        "passes": passes,
        "host": "here",
        "target": "here",
        "cache_dir": str(out / "cache"),
        "output_dir": str(out / "model"),
        "evaluate_input_model": False,
        "log_severity_level": 3,
    }


def beginnings(transformer: list[int] | None) -> list[dict[str, Any]]:
    """Passes before the quantisation, the best first; the next where those do not go with it."""
    plain: dict[str, Any] = {"peephole": {"type": "OnnxPeepholeOptimizer"}}
    if not transformer:
        return [plain]
    heads, hidden = transformer
    fuse = {"type": "OrtTransformersOptimization", "model_type": "bert", "num_heads": heads, "hidden_size": hidden}
    return [plain | {"fuse": fuse | {"opt_level": 0}}, plain]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("model", "calibration", "out"):
        parser.add_argument(name)
    parser.add_argument("--transformer", nargs=2, type=int, metavar=("HEADS", "HIDDEN"))
    arguments = parser.parse_args()
    from importlib.metadata import version

    from olive import run

    told: dict[str, Any] = {"version": version("olive-ai"), "seconds": {}, "problems": {}, "passes": {}}
    last = {
        "olive-dynamic": {"type": "OnnxDynamicQuantization"},
        "olive-static": {"type": "OnnxStaticQuantization", "data_config": "rows"},
    }
    for name, quantization in last.items():
        folder = Path(arguments.out) / name
        start_s = time.monotonic()
        for first in beginnings(arguments.transformer):
            passes = first | {"quantize": quantization}
            kinds = [each["type"] for each in passes.values()]
            shutil.rmtree(folder, ignore_errors=True)
            try:
                run(workflow(arguments.model, copy.deepcopy(passes), arguments.calibration, folder))  # it changes them
                made = sorted((folder / "model").rglob("*.onnx"))
                if not made:
                    raise RuntimeError(f"{', '.join(kinds)}: no .onnx file; see the log")
                shutil.copyfile(made[0], Path(arguments.out) / f"{name}.onnx")
            except Exception as error:  # whatever the tool says is its row in the table
                told["problems"][name] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
                continue
            told["problems"].pop(name, None)
            told["passes"][name] = kinds
            break
        told["seconds"][name] = time.monotonic() - start_s
    print(json.dumps(told))


if __name__ == "__main__":
    sys.exit(main())
