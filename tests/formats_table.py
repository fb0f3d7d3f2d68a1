"""The table in docs/formats.md: one row for each format, written by the tests that pack, prove and serve it.

With SETPOINT_WRITE_TABLE=1 a test also measures its row: one thread, the loaded model and its source framework's own
predict in turns, medians. Times are judged never; what stands beside them is, each time.
"""

import os
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from setpoint.core import ModelManifest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "formats.md"
BATCH = 64
_ROUNDS, _BUDGET_S, _ROUNDS_LEAST = 200, 20.0, 10
_HEAD = (
    "| format | packs | proven equal | serves | batch | p50 of one row | its own predict"
    f" | rows/s, batches of {BATCH} | its own | ratio |\n"
    "|---|---|---|---|---|---|---|---|---|---|\n"
)
_BEGIN, _END = "<!-- table: begin -->\n", "<!-- table: end -->"
Run = Callable[[int], Any]
"""Answers so many rows."""


def check_row(name: str, manifest: ModelManifest, ours: Run, theirs: Run) -> None:
    """Compare a format's row with what was found, or measure and write it.

    Args:
        name: of the format, as the table says it.
        manifest: of the bundle that was packed and has answered over HTTP.
        ours: asks the model as a worker has it loaded.
        theirs: asks the framework that it came from.
    """
    told = _told(manifest)
    if os.environ.get("SETPOINT_WRITE_TABLE"):
        _write(name, "| " + " | ".join([name, *told, *_measured(ours, theirs)]) + " |")
        return
    row = re.search(rf"^\| {re.escape(name)} \|(.*)\|$", PAGE.read_text(), re.MULTILINE)
    assert row is not None, f"docs/formats.md has no row for {name}; SETPOINT_WRITE_TABLE=1 writes it"
    assert [cell.strip() for cell in row[1].split("|")][: len(told)] == told


def _told(manifest: ModelManifest) -> list[str]:
    """What the table says of a bundle besides times."""
    checks = " ".join(manifest.lineage.checks)
    (variant,) = manifest.variants
    inside = variant.engine
    if inside == "python":
        inside = "by scikit-learn" if "served by scikit-learn itself" in checks else "by onnxruntime"
    else:
        inside = f"by {inside}"
    proven = "yes" if "converted answers" in checks else "as it is"
    batch = max(endpoint.batch_rows for endpoint in manifest.endpoints)
    return ["yes", proven, inside, str(batch) if batch else "no"]


def _measured(ours: Run, theirs: Run) -> list[str]:
    one, many = (_medians_s(ours, theirs, rows) for rows in (1, BATCH))
    times = [f"{1e3 * taken_s:.3f} ms" for taken_s in one]
    rates = [f"{BATCH / taken_s:,.0f}" for taken_s in many]
    return [*times, *rates, f"{many[1] / many[0]:.2f}"]


def _medians_s(ours: Run, theirs: Run, rows: int) -> tuple[float, float]:
    """In turns, so that whatever else the machine does falls on both."""
    taken: tuple[list[float], list[float]] = ([], [])
    for run in (ours, theirs):
        run(rows)
    start = time.perf_counter()
    for round_ in range(_ROUNDS):
        if round_ >= _ROUNDS_LEAST and time.perf_counter() - start > _BUDGET_S:
            break
        for run, times in zip((ours, theirs), taken, strict=True):
            begin = time.perf_counter()
            run(rows)
            times.append(time.perf_counter() - begin)
    return statistics.median(taken[0]), statistics.median(taken[1])


def _write(name: str, line: str) -> None:
    """Put a row into the page: in the place of the one of its name, else behind all others."""
    text = PAGE.read_text()
    before, _, rest = text.partition(_BEGIN)
    old, _, after = rest.partition(_END)
    rows = {row.split("|")[1].strip(): row for row in old.splitlines()[2:] if row.startswith("|")} | {name: line}
    PAGE.write_text(before + _BEGIN + _HEAD + "\n".join(rows.values()) + "\n" + _END + after)
