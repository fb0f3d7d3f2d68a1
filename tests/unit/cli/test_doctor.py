"""``doctor`` tells what is missing for what, and fails only when something that everything needs is broken."""

import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from setpoint.cli import health
from setpoint.cli.health import (
    Check,
    check_engines,
    check_json_reader,
    check_libraries,
    check_machine,
    check_registry,
    parse_requirements,
)
from setpoint.machine import Cpu, Machine
from setpoint.registry import Registry

Run = Callable[..., tuple[int, str, str]]


def test_requirements_are_split_by_extra() -> None:
    rows = [
        "click>=8.2",
        "ml-dtypes>=0.5",
        "scikit-learn>=1.6; extra == 'sklearn'",
        'uvloop>=0.22; sys_platform != "win32"',
        'skops>=0.12 ; python_version >= "3.11" and extra == "sklearn"',
    ]
    assert parse_requirements(rows) == {
        "": ["click", "ml-dtypes", "uvloop"],
        "sklearn": ["scikit-learn", "skops"],
    }


def test_everything_required_is_here() -> None:
    required = [check for check in check_libraries() if not check.about.startswith("[")]
    assert {check.status for check in required} == {"ok"}
    assert {"numpy", "msgspec", "onnxruntime"} <= {check.about for check in required}


def test_every_engine_is_loaded_with_its_version() -> None:
    checks = {check.about: check for check in check_engines()}
    onnxruntime = f"{metadata.version('onnxruntime')} on cpu"
    assert checks["engine onnxruntime"] == Check("engine onnxruntime", "ok", onnxruntime)
    assert checks["engine python"].status == "ok"
    assert checks["engine xgboost"] == Check("engine xgboost", "ok", f"{metadata.version('xgboost-cpu')} on cpu")
    assert checks["engine litert"] == Check("engine litert", "ok", f"{metadata.version('ai-edge-litert')} on cpu")


def test_a_missing_extra_says_what_for_and_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health.metadata, "requires", lambda name: ["no-such-library>=1; extra == 'sklearn'"])
    (check,) = check_libraries()
    assert (check.about, check.status) == ("[sklearn]", "missing")
    assert "no-such-library not installed" in check.found
    assert "scikit-learn estimators" in check.remedy
    assert "pip install 'setpoint[sklearn]'" in check.remedy


def test_without_the_native_reader_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "has_native_reader", lambda: False)
    (check,) = check_json_reader()
    assert check.status == "missing"
    assert "simdjson" in check.found
    assert "C compiler" in check.remedy
    monkeypatch.setattr(health, "has_native_reader", lambda: True)
    assert check_json_reader() == [Check("JSON numbers", "ok", "native reader")]


def test_a_required_library_that_is_not_here_is_broken(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setattr(health.metadata, "requires", lambda name: ["no-such-library>=1"])
    code, out, _ = run("doctor")
    assert code == 1
    assert "broken" in out
    assert "no-such-library" in out


def test_limits_of_the_machine_are_shown() -> None:
    machine = Machine(Cpu("x86_64", "Some CPU", ("avx2",)), 1, 16, 1.5, 4 << 30, 1 << 30)
    found = {check.about: check.found for check in check_machine(machine)}
    assert found["cores"] == "1 usable of 16, quota of 1.5 cores"
    assert found["memory"] == "1.0 GiB available of 4.0 GiB"


def test_a_registry_that_is_not_there_yet_is_fine_and_a_damaged_one_is_broken(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "home")
    assert check_registry(registry)[0].status == "ok"
    registry.root.mkdir()
    (registry.root / "index.json").write_text("{")
    (check,) = check_registry(registry)
    assert check.status == "broken"
    assert "SETPOINT_HOME" in check.remedy


def test_json_says_the_same_for_machines(run: Run) -> None:
    code, out, _ = run("doctor", "--json")
    record = json.loads(out)
    assert code == 0
    assert record["ok"] is True
    assert record["machine"]["cores"] >= 1
    assert {"about": "setpoint", "status": "ok", "found": metadata.version("setpoint"), "remedy": ""} in record[
        "checks"
    ]
