"""Lets the tests import the examples the way the examples import each other: by their bare names."""

import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
sys.path[:0] = [str(EXAMPLES / "magika"), str(EXAMPLES / "minilm")]
sys.path.append(str(EXAMPLES / "ocr"))  # last: it has a run.py too
