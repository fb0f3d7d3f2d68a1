"""What rapidocr itself reads, in a process of its own: folder of .npy images → JSON, boxes and texts of each."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from rapidocr_onnxruntime import RapidOCR


def main() -> None:
    ocr = RapidOCR()
    answers = []
    for path in sorted(Path(sys.argv[1]).glob("*.npy")):
        found, _ = ocr(np.ascontiguousarray(np.load(path)[..., ::-1]))  # it takes BGR
        answers.append([line[:2] for line in found or []])
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
