"""Lets the tests import ``scripted`` by its bare name."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent)]
