"""Strategies lie beside this file."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent)]
