"""What `setpoint optimize` found, as Markdown: a table for each model, and whether twice the original was reached."""

from __future__ import annotations

from typing import Any

import msgspec
from shared import best_of, table

from setpoint.core import Profile

WANTED = 2.0
HEAD = ("variant", "w × t", "1 row p50 / p99 ms", "best batch", "rows/s", "times", "held/s", "MiB", "loss (95 %)", "")


def model_table(name: str, study: Any) -> str:
    """One line for each variant, in the layout where it holds most; those that are not kept with the reason."""
    lines = [f"**{name}**, {study['objective']}; {study['metric']} on {study['examples']}; {study['seconds']:.0f} s."]
    rows = [_line(study, entry) for entry in study["entries"]]
    lines += ["", table(HEAD, rows), "", ". ".join(study["answer"]).replace("<=", "≤") + "."]
    lines += [f"Note: {warning}." for warning in study["warnings"]]
    return "\n".join(lines)


def _line(study: Any, entry: Any) -> tuple[str, ...]:
    name, verdict = entry["variant"]["name"], entry["verdict"]
    loss = loss_text(verdict) if verdict else "original" if entry is study["entries"][0] else ""
    measured = _shown(study, entry)
    if measured is None:
        return name, *[""] * 7, loss, entry["dropped"][:100] or "not measured"
    profile, candidate = msgspec.convert(measured["profile"], Profile), measured["candidate"]
    first, best = profile.latency[0], profile.best
    layout = f"{candidate['workers']} × {candidate['threads']}"
    point = _point(study, name, candidate)
    chosen = study["chosen"]
    mark = "chosen" if point is not None and point == chosen else "front" if point in study["front"] else ""
    return (
        name,
        layout,
        f"{first.p50_ms:.3g} / {first.p99_ms:.3g}",
        f"{best.rows} in {best.p50_ms:.3g} ms",
        f"{candidate['workers'] * best.rows_per_s:,.0f}",
        f"{measured['speedup']:.2f}",
        f"{point['rate_per_s']:,.0f}" if point and point["rows"] else "no" if point else "",
        f"{profile.memory_bytes / 2**20:.1f}",
        loss,
        f"dropped: {entry['dropped'][:100]}" if entry["dropped"] else mark,
    )


def _shown(study: Any, entry: Any) -> Any | None:
    """The measurement in the layout that holds most, or runs fastest where none was simulated."""
    working = [each for each in entry["measured"] if each["profile"] is not None]

    def worth(measured: Any) -> tuple[float, float]:
        point = _point(study, entry["variant"]["name"], measured["candidate"])
        rate = measured["candidate"]["workers"] * msgspec.convert(measured["profile"], Profile).best.rows_per_s
        return (point["rate_per_s"] if point else 0.0), rate

    return max(working, key=worth, default=None)


def _point(study: Any, variant: str, candidate: Any) -> Any | None:
    wanted = (variant, candidate["workers"], candidate["threads"])
    return next((p for p in study["points"] if (p["variant"], p["workers"], p["threads"]) == wanted), None)


def loss_text(verdict: Any) -> str:
    """`0.13 % [-0.35, 0.71] accuracy`, and how many rows it rests on."""
    loss = verdict["loss"]
    value, low, high = (100 * loss[key] for key in ("value", "low", "high"))
    return f"{value:.2g} % [{low:.2g}, {high:.2g}] {verdict['metric'].replace('_', ' ')}, {loss['rows']} rows"


def summary(studies: dict[str, Any]) -> str:
    """One line for each model: the original's best rate under its bound, the chosen one's, and what is lost."""
    rows = []
    for name, study in studies.items():
        original, chosen = best_of(study, study["entries"][0]["variant"]["name"]), study["chosen"]
        before = original["rate_per_s"] if original else 0.0
        if chosen is None:
            rows.append((name, study["objective"], f"{before:,.0f}", "none", "", "", ""))
            continue
        verdict = next(e["verdict"] for e in study["entries"] if e["variant"]["name"] == chosen["variant"])
        lost = f"{verdict['loss']['value']:.2%} ({verdict['loss']['high']:.2%})" if verdict else "original"
        times = f"{chosen['rate_per_s'] / before:.2f}" if before else "the original holds none"
        what = f"{chosen['variant']} {chosen['workers']} × {chosen['threads']}"
        rows.append((name, study["objective"], f"{before:,.0f}", f"{chosen['rate_per_s']:,.0f}", times, what, lost))
    head = ("model", "objective", "fp32 holds, rows/s", "chosen holds", "times", "chosen", "loss (upper end)")
    return table(head, rows)


def reached(study: Any) -> str:
    """Whether the chosen variant holds twice what fp32 on onnxruntime does under the same bound; what limits it."""
    chosen, original = study["chosen"], best_of(study, study["entries"][0]["variant"]["name"])
    if chosen is None or original is None:
        return (
            f"Nothing to compare: {'fp32 does not hold' if original is None else 'nothing holds'} the objective here."
        )
    times = chosen["rate_per_s"] / original["rate_per_s"]
    wanted = f"at least {WANTED:g} times what fp32 on onnxruntime holds at the same p99, for at most 1 %"
    text = [f"Wanted: {wanted}. {'Reached' if times >= WANTED else 'Not reached'}: {times:.2f} times"]
    text[0] += f" ({chosen['variant']}, {chosen['rate_per_s']:,.0f} against {original['rate_per_s']:,.0f} rows/s)."
    by_speed = [(_speed(entry), entry) for entry in study["entries"][1:]]
    faster = [(speed, entry) for speed, entry in by_speed if speed > _speed_of(by_speed, chosen["variant"])]
    if faster:
        faster.sort(key=lambda pair: -pair[0])
        names = ", ".join(f"{entry['variant']['name']} ({speed:.2f}×: {_why(entry)})" for speed, entry in faster)
        text.append(f"Faster, but not chosen: {names}.")
    else:
        text.append("No variant that was made and measured is faster: the processor's arithmetic is the limit.")
    return " ".join(text)


def _why(entry: Any) -> str:
    return entry["dropped"][:120] or "it holds no more under the bound"


def _speed(entry: Any) -> float:
    return max((m["speedup"] for m in entry["measured"] if m["profile"] is not None), default=0.0)


def _speed_of(pairs: list[tuple[float, Any]], name: str) -> float:
    return next((speed for speed, entry in pairs if entry["variant"]["name"] == name), 1.0)
