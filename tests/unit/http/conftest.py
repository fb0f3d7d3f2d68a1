"""Connections without sockets: the helpers lie beside this file and in ``tests/hostile``."""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE), str(_HERE.parents[1])]
