"""Every format packs, is served and answers as its source does; with SETPOINT_WRITE_TABLE=1 its table is written.

Times are measured then and judged never: one thread, the answers of the loaded model beside the source framework's own.
"""

import os
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from format_cases import CASES, Case
from setpoint.core import ModelManifest
from setpoint.engines import EngineOptions, Executable, load_executable
from setpoint.registry import Registry, pack_source

PAGE = Path(__file__).resolve().parents[2] / "docs" / "formats.md"
ROWS, ROUNDS, BATCH = 40, 200, 64
HEAD = (
    "| format | served by | proven equal | batch | p50 of one row | its own predict"
    " | rows/s, batches of 64 | its own |\n"
    "|---|---|---|---|---|---|---|---|\n"
)
_lines: dict[str, str] = {}


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__.removesuffix("_case"))
def test_it_packs_and_serves_its_sources_answers(
    make: Callable[[Path], Case], serve: Callable[..., Any], home: Path, tmp_path: Path
) -> None:
    case = make(tmp_path)
    registry = Registry(home)
    bundle, _ = pack_source(case.source, name="model", registry=registry)
    node = serve("model")
    some = {name: values[:ROWS] for name, values in case.inputs.items()}
    expected = case.predict(some)
    if case.by_records:
        records = [dict(zip(some, row, strict=True)) for row in zip(*some.values(), strict=True)]
        answered = node.ask("POST", "/models/model/predict", {"records": records}).json
        given = [row[case.output] for row in answered]
    else:
        body = {name: values.tolist() for name, values in some.items()}
        given = node.ask("POST", "/models/model/predict", body).json[case.output]
    np.testing.assert_allclose(given, expected, rtol=1e-3, atol=1e-4)
    row = page_row(case.name)
    assert row is not None, f"docs/formats.md has no row for {case.name}; SETPOINT_WRITE_TABLE=1 writes the table"
    told = found(bundle.manifest)
    if os.environ.get("SETPOINT_WRITE_TABLE"):
        executable = load_executable(bundle.manifest.variants[0], registry.folder(bundle), EngineOptions(threads=1))
        _lines[case.name] = "| " + " | ".join([case.name, *told, *measured(case, executable)]) + " |"
        executable.close()
        write()
    else:
        assert row[:3] == told


def found(manifest: ModelManifest) -> list[str]:
    """What the table says of a bundle besides times."""
    checks = " ".join(manifest.lineage.checks)
    (variant,) = manifest.variants
    inside = variant.engine
    if inside == "python":
        inside = "scikit-learn" if "served by scikit-learn itself" in checks else "onnxruntime"
    proven = "yes" if "converted answers" in checks else "as it is"
    batch = max(endpoint.batch_rows for endpoint in manifest.endpoints)
    return [inside, proven, str(batch) if batch else "no"]


def measured(case: Case, executable: Executable) -> list[str]:
    ours = _runner(case, executable)
    times = [f"{1e3 * _median_s(run, case, 1):.3f} ms" for run in (ours, case.predict)]
    rates = [f"{BATCH / _median_s(run, case, BATCH):,.0f}" for run in (ours, case.predict)]
    return [*times, *rates]


def _runner(case: Case, executable: Executable) -> Callable[[dict[str, Any]], Any]:
    if not case.by_records:
        return executable.run

    def ask(rows: dict[str, Any]) -> Any:
        return executable.call("columns", [msgspec.json.encode(rows)])  # type: ignore[attr-defined]

    return ask


def _median_s(run: Callable[[dict[str, Any]], Any], case: Case, rows: int) -> float:
    asked = {name: values[:rows] for name, values in case.inputs.items()}
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run(asked)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def page_row(name: str) -> list[str] | None:
    """The cells of the table's row of that name, its name aside; those to write are made up where there is none."""
    found_row = re.search(rf"^\| {re.escape(name)} \|(.*)\|$", PAGE.read_text(), re.MULTILINE)
    if found_row is None:
        return [""] * 7 if os.environ.get("SETPOINT_WRITE_TABLE") else None
    return [cell.strip() for cell in found_row[1].split("|")]


def write() -> None:
    """Put the rows measured so far into the page, in the cases' order, others kept as they are."""
    text = PAGE.read_text()
    begin, end = "<!-- table: begin -->\n", "<!-- table: end -->"
    before, _, rest = text.partition(begin)
    old, _, after = rest.partition(end)
    kept = {line.split("|")[1].strip(): line for line in old.splitlines()[2:] if line.startswith("|")}
    PAGE.write_text(before + begin + HEAD + "\n".join((kept | _lines).values()) + "\n" + end + after)
