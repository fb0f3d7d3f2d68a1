"""For every test."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).resolve().parent))  # so that tests share the package ``hostile``

# Machines that run tests are shared and small: how long one example takes says nothing about the code.
settings.register_profile("setpoint", deadline=None)
settings.load_profile("setpoint")
