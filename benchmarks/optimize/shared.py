"""What the scripts of this folder share: places, a served model and its traffic, tables for the documentation."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from models import prepare

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = REPOSITORY / "build" / "benchmarks" / "optimize"
PAGE = REPOSITORY / "docs" / "operating-point.md"
SETPOINT = [sys.executable, "-m", "setpoint"]
OBJECTIVES = {
    "magika": "p99<=50ms, drop<=1%",
    "minilm": "p99<=100ms, drop<=1%",
    "digits": "p99<=10ms, drop<=1%",
    "digits-cnn": "p99<=10ms, drop<=1%",
}
LOAD_ROWS = 256
READY_S = 60.0
STOP_S = 20.0


def say(text: str) -> None:
    """Progress goes to standard error; tables to standard output."""
    print(text, file=sys.stderr, flush=True)


def environment() -> dict[str, str]:
    """With a registry of these benchmarks' own."""
    return {**os.environ, "SETPOINT_HOME": str(BUILD / "home")}


def result_file(name: str) -> Path:
    """Where `run.py` leaves what `setpoint optimize --out` wrote."""
    return BUILD / f"{name}.result.json"


def study_of(name: str) -> Any:
    """The record of an optimisation.

    Raises:
        SystemExit: there is none yet.
    """
    if not result_file(name).exists():
        raise SystemExit(f"{name} was not optimised yet: python benchmarks/optimize/run.py {name}")
    return json.loads(result_file(name).read_text())


def bound_ms(objective: str) -> float:
    """`p99<=20ms, …` → 20."""
    found = re.search(r"p[\d.]+\s*<=\s*([\d.]+)\s*ms", objective)
    if found is None:
        raise SystemExit(f"objective {objective!r} has no bound in ms, such as p99<=20ms")
    return float(found[1])


def best_of(study: Any, variant: str) -> Any | None:
    """The point with the highest rate of a variant; None where it cannot hold the objective."""
    points = [point for point in study["points"] if point["variant"] == variant and point["rows"]]
    return max(points, key=lambda point: point["rate_per_s"], default=None)


# --- a served model and its traffic -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    """A node with one model."""

    name: str
    port: int
    pid: int

    @property
    def url(self) -> str:
        """To send traffic to."""
        return f"http://127.0.0.1:{self.port}/v2/models/{self.name}"

    def get(self, path: str) -> str:
        """The body of a GET, which must be a 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read().decode()
        finally:
            connection.close()
        if answer.status != 200:
            raise SystemExit(f"GET {path}: {answer.status} {body[:200]}")
        return body

    def cpu_s(self) -> float:
        """Processor time of the node's own process so far, its workers not included."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / 1e9


@contextlib.contextmanager
def served(reference: str, objective: str, *more: str) -> Iterator[Served]:
    """`setpoint serve` of an optimised model on a free port, ready; ended when left."""
    command = [*SETPOINT, "serve", reference, "--port", "0", "--objective", objective, "--json", "--no-optimize"]
    command.append("--until-stdin-closes")
    process = subprocess.Popen(
        [*command, *more],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"setpoint serve {reference} ended: {process.communicate()[1].strip()[-300:]}")
        port = int(json.loads(line)["url"].rsplit(":", 1)[1])
        yield Served(reference.partition(":")[0], port, process.pid)
    finally:
        process.stdin.close()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def load_rows(name: str) -> Path:
    """Some of a model's examples without their labels, for the load generator."""
    _, data, _ = prepare(name, BUILD)
    place = BUILD / f"{name}.load.npz"
    if not place.exists() or place.stat().st_mtime < data.stat().st_mtime:
        with np.load(data) as archive:
            which = np.random.default_rng(2).permutation(len(archive["label"]))[:LOAD_ROWS]
            columns: dict[str, Any] = {key: archive[key][which] for key in archive.files if key != "label"}
        np.savez(place, **columns)
    return place


def load_command(node: Served, deadline_ms: float, *more: str) -> list[str]:
    """The load generator, before everybody else on the processor where that is allowed."""
    first = ["chrt", "--rr", "1"] if os.geteuid() == 0 else []  # niceness alone leaves it lags of 2 to 4 ms
    command = [*first, *SETPOINT, "load", node.url, "--data", str(load_rows(node.name))]
    return [*command, "--deadline", f"{deadline_ms:g}ms", "--json", *more]


def load(node: Served, rate: float, seconds: float, deadline_ms: float, *more: str) -> Any:
    """One run of open-loop Poisson traffic; its record."""
    command = load_command(node, deadline_ms, "--rate", f"{rate:.2f}", "--for", f"{seconds:g}s", *more)
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.stdout.strip():
        raise SystemExit(f"setpoint load: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)["runs"][0]


# --- tables -----------------------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def busy_note(before_s: tuple[float, float]) -> str:
    """How many cores others used since `busy_now` was asked, in words."""
    busy_s, at_s = busy_now()
    return f"{(busy_s - before_s[0]) / (at_s - before_s[1]):.2f} of {os.cpu_count()} cores were busy, ours included"


def busy_now() -> tuple[float, float]:
    """Processor time that the whole machine has spent so far, and the time."""
    user, nice, system, _idle, _waiting, *rest = (int(word) for word in Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK"), time.monotonic()


def write_docs(part: str, text: str) -> None:
    """Replace what stands between a part's markers in the documentation.

    Raises:
        SystemExit: the page has no such markers.
    """
    begin, end = f"<!-- begin {part} -->", f"<!-- end {part} -->"
    page = PAGE.read_text()
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{PAGE.name} has no {begin} … {end}")
    PAGE.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}")
    say(f"written into {PAGE.relative_to(REPOSITORY)}: {part}")
