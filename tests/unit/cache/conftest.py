"""Tests of the response cache import their helpers by bare name."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent)]
