"""From measured runs to medians, ratios and Markdown tables."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from lineup import SETPOINT, Peer
from load import LoadResult

# What issue 2 of this project asks for on a machine with two cores.
WANTED_OF_ECHO, WANTED_OF_RAW_LOOP = 0.60, 0.95
NOISY_CORES = 0.15
MISSING = "-"


@dataclass(frozen=True)
class Run:
    """One measured run of one peer. CPU in seconds of the whole process tree; foreign_cores: cores used by others."""

    load: LoadResult
    cpu_s_per_1000: float
    rss_mb: float
    pss_mb: float
    foreign_cores: float


@dataclass(frozen=True)
class Visit:
    """One start of a peer: how long until its first right answer, what it held when idle, and its runs."""

    round: int
    start_s: float
    idle_rss_mb: float
    idle_pss_mb: float
    runs: list[Run]


@dataclass(frozen=True)
class RawLoop:
    """onnxruntime in a plain loop: rows/s by batch size, and the cores that others used meanwhile."""

    rows_per_s: dict[int, float]
    foreign_cores: float


@dataclass
class Outcome:
    """Everything known about one peer on one workload."""

    peer: Peer
    version: str
    settings: str
    visits: list[Visit] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def runs(self, connections: int) -> list[Run]:
        """The measured runs at a connection count, over all rounds."""
        return [run for visit in self.visits for run in visit.runs if run.load.connections == connections]

    def middle(self, connections: int, what: Callable[[Run], float]) -> float | None:
        """The median over the rounds, or None when nothing was measured."""
        values = [what(run) for run in self.runs(connections)]
        return median(values) if values else None

    def errors(self) -> dict[str, int]:
        """Errors by kind, summed over every measured run."""
        totals: dict[str, int] = {}
        for visit in self.visits:
            for run in visit.runs:
                for kind, count in run.load.errors.items():
                    totals[kind] = totals.get(kind, 0) + count
        return {kind: count for kind, count in totals.items() if count}


def requests_per_s(run: Run) -> float:
    return run.load.requests_per_s


def p99_ms(run: Run) -> float:
    return run.load.p99_ms


def number(value: float | None) -> str:
    """Three significant digits, thousands separated; a dash where nothing was measured."""
    if value is None:
        return MISSING
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.1 else f"{value:.3f}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    cells = list(head)
    lines = [cells, ["---"] * len(cells), *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def measured_table(outcomes: list[Outcome], connections: list[int]) -> str:
    """The figures of every peer; one that could not be measured keeps its row, with the reason in it."""
    at = [str(count) for count in connections]
    last = connections[-1]
    head = [
        "server", "workers × threads, batch / window",
        *(f"req/s at {count}" for count in at), *(f"p50 ms at {count}" for count in at),
        *(f"p99 ms at {count}" for count in at),
        f"CPU-s per 1000 at {last}", "RSS MB", "start s", "errors",
    ]  # fmt: skip
    rows = []
    for outcome in outcomes:
        name = f"{outcome.peer.title} ({outcome.version})" if outcome.version else outcome.peer.title
        if outcome.failures:
            name += f" — **{'failed in a round' if outcome.visits else 'not measured'}**: {outcome.failures[-1]}"
        errors = outcome.errors()
        starts = [visit.start_s for visit in outcome.visits]
        rows.append(
            [
                name.replace("|", "/"),
                outcome.settings,
                *(number(outcome.middle(count, requests_per_s)) for count in connections),
                *(number(outcome.middle(count, lambda run: run.load.p50_ms)) for count in connections),
                *(number(outcome.middle(count, p99_ms)) for count in connections),
                number(outcome.middle(last, lambda run: run.cpu_s_per_1000)),
                number(outcome.middle(last, lambda run: run.rss_mb)),
                number(median(starts) if starts else None),
                ", ".join(f"{kind} {count}" for kind, count in errors.items()) or ("0" if outcome.visits else MISSING),
            ]
        )
    return table(head, rows)


def ratio(ours: float | None, theirs: float | None) -> str:
    return f"{ours / theirs:.2f}" if ours and theirs else MISSING


def ratio_table(outcomes: list[Outcome], connections: list[int]) -> str:
    """Setpoint's figure divided by each peer's: above 1 is better for req/s, below 1 for p99."""
    ours = next((outcome for outcome in outcomes if outcome.peer.name == SETPOINT.name and outcome.visits), None)
    if ours is None:
        return "Setpoint was not measured, so there are no ratios."
    head = ["Setpoint ÷", *(f"req/s at {c}" for c in connections), *(f"p99 at {c}" for c in connections)]
    rows = []
    for other in outcomes:
        if other is ours or not other.visits:
            continue
        figures = [
            ratio(ours.middle(count, what), other.middle(count, what))
            for what in (requests_per_s, p99_ms)
            for count in connections
        ]
        rows.append([other.peer.title, *figures])
    return table(head, rows)


def verdicts(workload: str, outcomes: list[Outcome], raw_rows_per_s: float | None, connections: list[int]) -> list[str]:
    """One line for each thing that issue 2 wants, with what was reached; nothing when Setpoint was not measured."""
    ours = next((outcome for outcome in outcomes if outcome.peer.name == SETPOINT.name and outcome.visits), None)
    if ours is None:
        return []
    peers = [outcome for outcome in outcomes if outcome is not ours and not outcome.peer.ceiling and outcome.visits]
    last = connections[-1]
    lines = []

    def line(wanted: str, reached: str, held: bool) -> None:
        lines.append(f"- {'reached' if held else '**not reached**'}: {wanted}; {reached}")

    def others(count: int, what: Callable[[Run], float]) -> list[tuple[float, str]]:
        return [(value, peer.peer.title) for peer in peers if (value := peer.middle(count, what)) is not None]

    if workload == "iris":
        for count in connections:
            value, who = max(others(count, requests_per_s), default=(0.0, "nobody else"))
            mine = ours.middle(count, requests_per_s) or 0.0
            line(f"ahead of every peer at {count}", f"{mine:,.0f}/s, {who} {value:,.0f}/s", mine > value)
        echo = next((o.middle(last, requests_per_s) for o in outcomes if o.peer.name == "echo" and o.visits), None)
        if echo:
            share = (ours.middle(last, requests_per_s) or 0.0) / echo
            line(f"{WANTED_OF_ECHO:.0%} of the bare echo at {last}", f"{share:.0%}", share >= WANTED_OF_ECHO)
    else:
        if raw_rows_per_s:
            share = (ours.middle(last, requests_per_s) or 0.0) / raw_rows_per_s
            text = f"{WANTED_OF_RAW_LOOP:.0%} of the plain onnxruntime loop at {last}"
            line(text, f"{share:.0%}", share >= WANTED_OF_RAW_LOOP)
        for count in connections:
            value, who = min(others(count, p99_ms), default=(float("inf"), "nobody else"))
            mine = ours.middle(count, p99_ms) or 0.0
            line(
                f"a lower p99 than every peer at {count}", f"{number(mine)} ms, {who} {number(value)} ms", mine < value
            )
    return lines


def spread_note(outcomes: list[Outcome], raw: list[RawLoop], connections: list[int]) -> str:
    """How far the rounds lie apart, and whether others used the machine meanwhile."""
    spreads = []
    for outcome in outcomes:
        for count in connections:
            values = [requests_per_s(run) for run in outcome.runs(count)]
            if len(values) > 1:
                spreads.append(max(values) / min(values) - 1 if min(values) else float("inf"))
    foreign = [run.foreign_cores for outcome in outcomes for visit in outcome.visits for run in visit.runs]
    foreign += [loop.foreign_cores for loop in raw]
    parts = []
    if spreads:
        parts.append(f"Rounds lie {median(spreads):.0%} apart in req/s (median), {max(spreads):.0%} at most.")
    if foreign:
        noisy = sum(cores > NOISY_CORES for cores in foreign)
        parts.append(f"Other processes used {median(foreign):.2f} cores (median), {max(foreign):.2f} at most.")
        if noisy:
            parts.append(
                f"**In {noisy} of {len(foreign)} runs it was more than {NOISY_CORES:g}: not a quiet machine.**"
            )
    return " ".join(parts)


def raw_loop_table(raw: list[RawLoop]) -> tuple[str, float | None]:
    """The engine alone: rows/s by batch size (median over rounds), and the best of them."""
    if not raw:
        return "", None
    medians = {batch: median(loop.rows_per_s[batch] for loop in raw) for batch in raw[0].rows_per_s}
    best = max(medians, key=lambda batch: medians[batch])
    text = table(
        ["onnxruntime in a plain loop", *(f"batch {batch}" for batch in medians)],
        [["rows/s", *(f"**{value:,.0f}**" if b == best else f"{value:,.0f}" for b, value in medians.items())]],
    )
    return text, medians[best]


def machine() -> str:
    """The machine in one line."""
    names = [line.split(":")[1].strip() for line in cpuinfo() if line.startswith("model name")]
    cpu = names[0] if names else "unknown CPU"
    return f"{len(names)} × {cpu}, Linux {platform.release()}, Python {platform.python_version()}"


def cpuinfo() -> list[str]:
    return Path("/proc/cpuinfo").read_text().splitlines()
