"""``setpoint load``: how much a server holds, ours or any other."""

from __future__ import annotations

import re
from math import inf
from pathlib import Path
from typing import Any

import click
import msgspec

from setpoint.cli.load_report import LiveView, maximum_text, page, table, verdict_text
from setpoint.cli.main import EXIT_FAILED
from setpoint.cli.table import print_json
from setpoint.cli.units import Duration
from setpoint.core import InvalidConfiguration
from setpoint.plan import (
    Arrivals,
    LoadPlan,
    LoadResult,
    Maximum,
    RequestOptions,
    draw,
    find_maximum,
    find_target,
    parse_arrivals,
    parse_schedule,
    png,
    run_rates,
    svg,
)

_START_PER_S = 100.0
_SHORTEST_TIMEOUT_S = 2.0
_DEADLINES_PER_TIMEOUT = 10
_PER_CENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_OUTPUT = click.Path(dir_okay=False, path_type=Path)


class Rates(click.ParamType[tuple[float, ...]]):
    """One rate per second or several: ``200`` or ``100,200,400``."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Read them, or fail as misuse."""
        if isinstance(value, tuple):
            return value
        try:
            rates = tuple(float(part) for part in value.split(","))
        except ValueError:
            rates = ()
        if not rates or not all(0 < rate < float("inf") for rate in rates):
            self.fail(f"{value!r} is not a rate above 0 per second; expected such as 200, or 100,200,400", param, ctx)
        return rates


class ArrivalsText(click.ParamType[Arrivals]):
    """A law of arrivals, or a file of recorded ones."""

    name = "law"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Arrivals:
        """Read it, or fail as misuse."""
        if isinstance(value, Arrivals):
            return value
        path = Path(value)
        try:
            if path.suffix.lower() == ".csv":
                return parse_schedule(path.read_text(encoding="utf-8"), str(path))
            return parse_arrivals(value)
        except (InvalidConfiguration, UnicodeDecodeError) as error:
            self.fail(str(error), param, ctx)
        except OSError as error:
            self.fail(f"{path} cannot be read: {error.strerror}", param, ctx)


class Share(click.ParamType[float]):
    """A share such as ``99%`` or ``0.99``, below all and above none."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it, or fail as misuse."""
        if isinstance(value, float):
            return value
        match = _PER_CENT.fullmatch(value.strip())
        try:
            share = float(match[1]) / 100 if match else float(value)
        except ValueError:
            share = 0.0
        if not 0 < share < 1:
            self.fail(f"{value!r} is not a share below 100%; expected such as 99% or 0.99", param, ctx)
        return share


class DurationOrNone(Duration):
    """A time, or 0."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it, or fail as misuse."""
        return 0.0 if value in ("0", "0s") else super().convert(value, param, ctx)


@click.command("load")
@click.argument("url")
@click.option("--rate", "rates", type=Rates(), help="Requests per second; several, as 100,200,400, make a run each.")
@click.option(
    "--arrivals",
    type=ArrivalsText(),
    default="poisson",
    show_default=True,
    help="poisson, gamma:CV, burst (3× the rate a fifth of the time), burst:FACTOR, constant, or FILE.csv with the"
    " seconds of each arrival.",
)
@click.option("--for", "seconds", type=Duration(), default=30.0, help="How long to measure each rate.  [default: 30s]")
@click.option("--deadline", type=Duration(), required=True, help="An answer after this counts as a miss.")
@click.option(
    "--attain",
    type=Share(),
    default=0.99,
    help="Share to be answered within the deadline, for the verdict.  [default: 99%]",
)
@click.option("--find-max", is_flag=True, help="Search the largest rate that is proven, from --rate on.")
@click.option(
    "--step",
    type=click.FloatRange(1.01, 100.0),
    default=2.0,
    show_default=True,
    help="Of --find-max: by which the rate grows or shrinks until the maximum is enclosed.",
)
@click.option("--within", type=Duration(), help="Of --find-max: no other rate is tried after this long.")
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What to send: .jsonl (bodies, or {input: rows}) or .npz (an array per input).",
)
@click.option("--body", help="One body for all requests; @FILE reads it from there.")
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help="Send this header; may be repeated."
)
@click.option(
    "--wire",
    type=click.Choice(["json", "binary"]),
    default="json",
    show_default=True,
    help="How tensors travel to …/v2/models/NAME.",
)
@click.option("--rows", type=click.IntRange(1), default=1, show_default=True, help="Rows of a request.")
@click.option(
    "--length", type=click.IntRange(1), default=8, show_default=True, help="Of free axes such as a sequence's, made up."
)
@click.option("--warm-up", type=DurationOrNone(), default=1.0, help="Sent first and not counted.  [default: 1s]")
@click.option("--timeout", type=Duration(), help="Give up on an answer.  [default: 10 deadlines, at least 2s]")
@click.option(
    "--in-flight", type=click.IntRange(1), default=1024, show_default=True, help="More at once are not sent: misses."
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of arrivals and made-up values.")
@click.option("--json", "as_json", is_flag=True, help="Print a record instead of a page.")
@click.option("--out", type=_OUTPUT, help="Also write the record into this file.")
@click.option("--picture", type=_OUTPUT, help="Also draw it: FILE.svg or FILE.png.")
def command(
    url: str,
    rates: tuple[float, ...] | None,
    arrivals: Arrivals,
    seconds: float,
    deadline: float,
    attain: float,
    find_max: bool,
    step: float,
    within: float | None,
    data: Path | None,
    body: str | None,
    headers: tuple[str, ...],
    rows: int,
    length: int,
    warm_up: float,
    timeout: float | None,
    in_flight: int,
    seed: int,
    wire: str,
    as_json: bool,
    out: Path | None,
    picture: Path | None,
) -> int:
    """Send a server traffic and say what it holds.

    Requests are sent at their times whether or not earlier ones are answered, and latency counts from the time they
    were due. URL is …/v2/models/NAME (Open Inference Protocol; grpc://HOST:PORT/NAME for gRPC), …/v1/embeddings
    (OpenAI), …/models/NAME/ENDPOINT, or any other that takes a POST, with --body or --data. Exit code 1 where this
    machine could not keep time, so that nothing was measured.

    \b
      setpoint load http://127.0.0.1:8000/v2/models/iris --rate 200 --deadline 20ms
      setpoint load http://127.0.0.1:8000/v2/models/iris --deadline 20ms --find-max --for 10s
    """
    if picture is not None and picture.suffix.lower() not in (".svg", ".png"):
        raise click.UsageError(f"--picture {picture}: expected a name that ends in .svg or .png")
    if data is not None and body is not None:
        raise click.UsageError("--data and --body exclude each other")
    if find_max and rates is not None and len(rates) > 1:
        raise click.UsageError("--find-max starts from one --rate")
    if rates is None:
        if not find_max and not arrivals.times_ns:
            raise click.UsageError("say how much to send: --rate 200, or --find-max")
        rates = (_START_PER_S,) if find_max else (0.0,)  # 0: as recorded
    options = RequestOptions(data, _body(body), _headers(headers), rows, length, seed, wire)
    plan = LoadPlan(
        arrivals=arrivals,
        rate_per_s=rates[0],
        seconds=min(seconds, _recorded_s(arrivals, rates[0])),
        deadline_s=deadline,
        timeout_s=timeout or max(_SHORTEST_TIMEOUT_S, _DEADLINES_PER_TIMEOUT * deadline),
        warm_up_s=warm_up,
        in_flight_limit=in_flight,
        seed=seed,
        target_share=attain,
    )
    target = find_target(url, options)
    maximum: Maximum | None = None
    several = find_max or len(rates) > 1
    view = LiveView()

    def end(result: LoadResult) -> None:
        view.end()
        if several:
            click.echo(f"{result.offered_per_s:.4g}/s  {result.attainment:.2%}  {verdict_text(result)}", err=True)

    try:
        if find_max:
            maximum, results = find_maximum(target, plan, view.begin, end, step=step, budget_s=within or inf)
        else:
            results = run_rates(target, plan, rates, view.begin, end)
    finally:
        view.end()
    _write(results, maximum, out, picture)
    if as_json:
        print_json(_record(results, maximum))
    else:
        click.echo(table(sorted(results, key=lambda run: run.offered_per_s)) if several else page(results[0]))
        if maximum is not None:
            click.echo(f"\n{click.style('maximum', bold=True)}  {maximum_text(maximum)}")
    return _exit_code(results, maximum)


def _record(results: list[LoadResult], maximum: Maximum | None) -> dict[str, Any]:
    return {"runs": results, "maximum": maximum}


def _write(results: list[LoadResult], maximum: Maximum | None, out: Path | None, picture: Path | None) -> None:
    if out is not None:
        out.write_bytes(msgspec.json.format(msgspec.json.encode(_record(results, maximum)), indent=2) + b"\n")
    if picture is not None:
        drawn = draw(results)
        picture.write_bytes(png(drawn) if picture.suffix.lower() == ".png" else svg(drawn).encode())


def _exit_code(results: list[LoadResult], maximum: Maximum | None) -> int:
    """1 where this machine could not keep time: a maximum that only the generator bounds is none."""
    if maximum is not None:
        return EXIT_FAILED if maximum.rate_per_s is None or maximum.bounded_by == "void" else 0
    for reason in (run.void for run in results if run.void):
        click.echo(f"{click.style('void', fg='red', bold=True)}: {reason}", err=True)
    return EXIT_FAILED if any(run.void for run in results) else 0


def _body(text: str | None) -> bytes | None:
    if text is None or not text.startswith("@"):
        return None if text is None else text.encode()
    return Path(text[1:]).read_bytes()


def _headers(lines: tuple[str, ...]) -> dict[str, str]:
    headers = {}
    for line in lines:
        name, separator, value = line.partition(":")
        if not separator or not name.strip():
            raise click.UsageError(f"--header {line!r}: expected NAME:VALUE")
        headers[name.strip().lower()] = value.strip()
    return headers


def _recorded_s(arrivals: Arrivals, rate_per_s: float) -> float:
    """How long a recorded schedule is at that rate: a longer run would measure silence."""
    if not arrivals.times_ns:
        return float("inf")
    recorded_s = arrivals.times_ns[-1] / 1e9
    own_per_s = arrivals.recorded_rate_per_s
    return (recorded_s * own_per_s / rate_per_s if rate_per_s and own_per_s else recorded_s) + 1e-3
