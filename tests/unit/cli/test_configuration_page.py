"""docs/configuration.md says what the records say, and its example is a file that is read."""

import importlib.util
import re
from pathlib import Path

from setpoint.cli.config_file import read_config

HOUSE = Path(__file__).resolve().parents[3]
PAGE = HOUSE / "docs" / "configuration.md"


def test_its_tables_are_the_records() -> None:
    path = HOUSE / "scripts" / "configuration_reference.py"
    specification = importlib.util.spec_from_file_location("configuration_reference", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    assert PAGE.read_text() == module.page(PAGE.read_text()), "run: make docs"


def test_its_example_can_be_read(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    path = tmp_path / "setpoint.toml"
    path.write_text(example)
    config = read_config(path)
    assert config.limits["body_limit_bytes"].value == 64 << 20
    assert [model["source"].value for model in config.models] == [
        str(tmp_path / "models/sentiment.onnx"),
        "ranker:champion",
    ]
