"""Keras and TensorFlow. They need TensorFlow, which no lock holds: ``make test-tensorflow`` makes its environment."""

import importlib.util
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
collect_ignore_glob = [] if importlib.util.find_spec("tensorflow") else ["test_*.py"]
