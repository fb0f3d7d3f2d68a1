"""What a person reads of a load run: a few lines for one rate, a table for several, a live view meanwhile."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from setpoint.cli.table import render
from setpoint.cli.units import format_seconds
from setpoint.observe import Percentiles
from setpoint.plan import LoadPlan, LoadResult, Maximum, Second, State, Watch

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_SHOWN_SECONDS = 10
_HEADER = ("OFFERED/s", "ATTAINED", "GOODPUT/s", "P50 ms", "P99 ms", "LATE", "REFUSED", "ERRORS", "CPU", "VERDICT")
_BOUNDED_BY = {
    "refuted": "the server holds no more",
    "unresolved": "above it, more queries would be needed to tell: a longer --for",
    "void": "above it, the generator lags: this machine cannot measure more",
    "probes": "the search ran out of probes",
    "time": "no time was left to try another",
}


def page(run: LoadResult) -> str:
    """One run."""
    within = format_seconds(run.deadline_ms / 1e3)
    lines = [("attained", f"{_share(run.attainment)} of {run.offered:,} within {within} ({verdict_text(run)})")]
    lines.append(("latency", _latency(run.latency)))
    lines.append(("goodput", f"{run.goodput_per_s:.4g}/s of {run.offered_per_s:.4g}/s offered, {run.arrivals}"))
    if run.attained < run.offered:
        lines.append(("misses", _misses(run)))
    if run.first_error:
        lines.append(("first", run.first_error))
    generator = run.generator
    lag = f", lag p50 {generator.lag.p50_ms:.3g} p99 {generator.lag.p99_ms:.3g} ms" if generator.lag else ""
    cpu = f"{generator.share_of_core:.0%} of a core, {generator.share_of_machine:.0%} of the machine"
    lines.append(("generator", f"{cpu}{lag}, {generator.connections} connections"))
    width = max(len(label) for label, _ in lines)
    return "\n".join(f"{click.style(label.ljust(width), bold=True)}  {text}" for label, text in lines)


def table(runs: Sequence[LoadResult]) -> str:
    """Several runs."""
    rows = []
    for run in runs:
        latency = (f"{run.latency.p50_ms:.3g}", f"{run.latency.p99_ms:.3g}") if run.latency else ("-", "-")
        counts = (str(run.late), str(run.refused), str(sum(run.errors.values())))
        cpu, goodput = f"{run.generator.share_of_core:.0%}", f"{run.goodput_per_s:.4g}"
        row = (f"{run.offered_per_s:.4g}", _share(run.attainment), goodput, *latency, *counts, cpu, verdict_text(run))
        rows.append(row)
    return render(_HEADER, rows, right=_HEADER[:-1])


def verdict_text(run: LoadResult) -> str:
    """``proven at 99 %``, or what is missing."""
    verdict, target = run.verdict, f"{run.verdict.target * 100:.4g} %"
    if run.void:
        return "void"
    if verdict.state is State.PROVEN:
        return f"proven at {target}"
    if verdict.state is State.REFUTED:
        return f"refuted at {target}"
    if verdict.more_queries is None:
        return f"not proven at {target}"
    return f"not proven at {target}: {verdict.more_queries:,} more queries like these would"


def maximum_text(found: Maximum) -> str:
    """What ``--find-max`` found."""
    reason = _BOUNDED_BY[found.bounded_by]
    if found.rate_per_s is None:
        return f"no rate is proven at {found.target * 100:.4g} %, not even {found.not_proven_per_s:g}/s; {reason}"
    above = "" if found.not_proven_per_s is None else f" (not at {found.not_proven_per_s:g}/s)"
    return f"{found.rate_per_s:g}/s is proven at {found.target * 100:.4g} %{above}; {reason}"


def _share(share: float) -> str:
    """Down, not to the nearest: 100 % means all."""
    return f"{int(share * 10_000) / 100:.4g} %"


def _latency(latency: Percentiles | None) -> str:
    if latency is None:
        return "nothing was answered"
    named = (("p50", latency.p50_ms), ("p90", latency.p90_ms), ("p99", latency.p99_ms), ("p99.9", latency.p999_ms))
    text = "  ".join(f"{name} {value:.3g}" for name, value in named)
    return f"{text}  max {latency.max_ms:.3g} ms of what was answered, from the intended send time"


def _misses(run: LoadResult) -> str:
    parts = [f"late {run.late:,}"] if run.late else []
    if run.refused and run.refusal_latency:
        parts.append(
            f"refused {run.refused:,} (within p50 {run.refusal_latency.p50_ms:.3g}"
            f" p99 {run.refusal_latency.p99_ms:.3g} ms)"
        )
    parts += [f"{kind.replace('_', ' ')} {count:,}" for kind, count in run.errors.items()]
    return ", ".join(parts)


class LiveView:
    """The last seconds of a run on stderr, where a person is watching; nothing elsewhere."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[Second, int]] = deque(maxlen=_SHOWN_SECONDS)
        self._live: Live | None = None

    def begin(self, plan: LoadPlan) -> Watch | None:
        """Show a run that begins; gives what is to be called once a second."""
        if not sys.stderr.isatty():
            return None
        from rich.console import Console
        from rich.live import Live

        self._seconds.clear()
        # Drawn once a second from the run's own loop, and not by a thread that would hold the interpreter meanwhile.
        live = self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
        live.start()

        def watch(second: Second, in_flight: int) -> None:
            self._seconds.append((second, in_flight))
            live.update(self._drawn(plan), refresh=True)

        return watch

    def end(self) -> None:
        """Take it away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _drawn(self, plan: LoadPlan) -> RenderableType:
        from rich.table import Table

        title = f"{plan.rate_per_s:g}/s {plan.arrivals} for {plan.seconds:g} s, deadline {plan.deadline_s * 1e3:g} ms"
        view = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for name in ("s", "offered", "attained", "late", "refused", "failed", "p50 ms", "p99 ms", "in flight"):
            view.add_column(name, justify="right")
        for second, in_flight in self._seconds:
            times = (f"{value:.3g}" if value is not None else "-" for value in (second.p50_ms, second.p99_ms))
            counts = (second.second + 1, second.offered, second.attained, second.late, second.refused, second.failed)
            view.add_row(*map(str, counts), *times, str(in_flight))
        return view
