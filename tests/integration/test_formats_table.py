"""Every format packs, is served and answers as its source does; its row of docs/formats.md says so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from format_cases import CASES, Case
from formats_table import check_row
from setpoint.engines import EngineOptions, Executable, load_executable
from setpoint.registry import Registry, pack_source

ROWS = 40


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__.removesuffix("_case"))
def test_it_packs_and_serves_its_sources_answers(
    make: Callable[[Path], Case], serve: Callable[..., Any], home: Path, tmp_path: Path
) -> None:
    case = make(tmp_path)
    registry = Registry(home)
    bundle, _ = pack_source(case.source, name="model", registry=registry)
    node = serve("model")
    some = first(case, ROWS)
    expected = case.predict(some)
    if case.by_records:
        records = [dict(zip(some, row, strict=True)) for row in zip(*some.values(), strict=True)]
        answered = node.ask("POST", "/models/model/predict", {"records": records}).json
        given = [row[case.output] for row in answered]
    else:
        body = {name: values.tolist() for name, values in some.items()}
        given = node.ask("POST", "/models/model/predict", body).json[case.output]
    np.testing.assert_allclose(given, expected, rtol=1e-3, atol=1e-4)
    executable = load_executable(bundle.manifest.variants[0], registry.folder(bundle), EngineOptions(threads=1))
    ask = runner(case, executable)
    check_row(
        case.name, bundle.manifest, lambda rows: ask(first(case, rows)), lambda rows: case.predict(first(case, rows))
    )
    executable.close()


def first(case: Case, rows: int) -> dict[str, Any]:
    return {name: values[:rows] for name, values in case.inputs.items()}


def runner(case: Case, executable: Executable) -> Callable[[dict[str, Any]], Any]:
    if not case.by_records:
        return executable.run

    def ask(rows: dict[str, Any]) -> Any:
        return executable.call("columns", [msgspec.json.encode(rows)])  # type: ignore[attr-defined]

    return ask
