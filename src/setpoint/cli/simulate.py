"""``setpoint simulate``: what an objective would need, without a machine to try it on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np

from setpoint.cli.load import ArrivalsText, Rates
from setpoint.cli.objective_text import ObjectiveText
from setpoint.cli.table import print_json, render
from setpoint.cli.units import Duration
from setpoint.core import InvalidConfiguration, Limits, Objective, Profile
from setpoint.machine import engine_fingerprint
from setpoint.node import ModelConfig, terms_of
from setpoint.plan import (
    AffineRunTimes,
    Arrivals,
    Fleet,
    MeasuredRunTimes,
    Outcome,
    RunTimes,
    Traffic,
    parse_law,
    simulate,
)
from setpoint.registry import Registry
from setpoint.scheduling import ObjectivePolicy, ObjectiveTerms, Scheduler, VariantTerms, allowed_variants

_VARIANT = re.compile(r"(?:(?P<name>[^=@]+)=)?(?P<what>[^@]+)(?:@(?P<accuracy>0?\.\d+|1(?:\.0*)?))?")


class Stated(msgspec.Struct, frozen=True):
    """A variant as written on the command line: ``NAME=WHAT@ACCURACY``, where only WHAT is needed."""

    name: str
    what: str
    accuracy: float | None


class VariantText(click.ParamType[Stated]):
    """``NAME=WHAT@ACCURACY``."""

    name = "variant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Stated:
        """Read it, or fail as misuse."""
        if isinstance(value, Stated):
            return value
        match = _VARIANT.fullmatch(value)
        if match is None:
            self.fail(f"{value!r} is not understood; expected such as 'int8=1.5+3.2b ms@0.79'", param, ctx)
        return Stated(match["name"] or "", match["what"], float(match["accuracy"]) if match["accuracy"] else None)


class SimulatedRate(msgspec.Struct, frozen=True):
    """One rate's result, as ``--json`` prints it."""

    rate_per_s: float
    held: bool
    outcome: Outcome


@click.command("simulate")
@click.option(
    "--model",
    metavar="REFERENCE",
    help="A model in the registry that setpoint optimize has measured here: its variants, held to what the node would.",
)
@click.option("--variant", default="", help="Of --model: answer with this variant only.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of --model: of each worker.")
@click.option(
    "--profile",
    "profiles",
    type=VariantText(),
    multiple=True,
    metavar="[NAME=]FILE[@ACCURACY]",
    help="A measured variant.",
)
@click.option(
    "--law", "laws", type=VariantText(), multiple=True, metavar="[NAME=]LAW[@ACCURACY]", help='Such as "2+8b ms".'
)
@click.option("--objective", type=ObjectiveText(), required=True, help='What to hold, such as "p99<=60ms, drop<=1%".')
@click.option("--rate", "rates", type=Rates(), required=True, help="Requests per second: 200, or 100,200,400.")
@click.option(
    "--arrivals",
    type=ArrivalsText(),
    default="poisson",
    show_default=True,
    help="poisson, gamma:CV, burst, constant, or a file such as schedule.csv.",
)
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="Workers, a batch each at a time."
)
@click.option("--for", "seconds", type=Duration(), default="60s", show_default=True, help="Simulated time.")
@click.option("--max-batch", type=click.IntRange(1), default=64, show_default=True, help="Rows of a batch at most.")
@click.option("--overhead", type=Duration(), default="500us", show_default=True, help="Time around each batch's run.")
@click.option(
    "--request-cost",
    type=Duration(),
    default=0.0,
    show_default="none",
    help="Time of a core that each request costs beside its run, taken from the workers while all are busy.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Equal seeds give equal results.")
@click.option("--json", "as_json", is_flag=True, help="Print records instead of a table.")
def command(
    model: str | None,
    variant: str,
    threads: int,
    profiles: tuple[Stated, ...],
    laws: tuple[Stated, ...],
    objective: Objective,
    rates: tuple[float, ...],
    arrivals: Arrivals,
    workers: int,
    seconds: float,
    max_batch: int,
    overhead: float,
    request_cost: float,
    seed: int,
    as_json: bool,
) -> int:
    """Say whether an objective would be held, in simulated time.

    Variants are a model's in the registry, measured profiles (JSON) or laws: the run time of a batch of b rows, drawn
    with 6 % noise and 1 % stragglers. Simulated are queueing, batching, refusals and the choice of variant, and what
    requests cost beside their runs where that is stated; not the network, or other programs on the machine. Exit code
    1 when the objective is not held at every rate.

    \b
      setpoint simulate --model minilm --objective "p99<=60ms" --workers 2 --rate 100,200,300
      setpoint simulate --law "2+8b ms" --objective "p99<=60ms" --workers 2 --rate 100,200,300
      setpoint simulate --law "fp32=2+8b ms@0.80" --law "int8=1.5+3.2b ms@0.79" \\
                        --objective "p99<=60ms, drop<=2%" --workers 2 --rate 400 --arrivals burst
    """
    if objective.latency is None:
        raise click.UsageError('the objective bounds no latency; expected such as "p99<=60ms"')
    if (model is None) == (not profiles and not laws):
        raise click.UsageError('state either --model REFERENCE or variants: --profile FILE, --law "2+8b ms"')
    bound_ns = objective.latency.bound_ns
    held_share = objective.latency.percentile / 100
    model_terms = None if model is None else _model_terms(model, variant, objective, workers, threads)
    results = []
    for rate in rates:
        rng = np.random.default_rng(seed)
        if model_terms is not None:
            terms = model_terms
            drawn: dict[str, tuple[VariantTerms, RunTimes]]
            drawn = {each.name: (each, MeasuredRunTimes(_profile_of(each), rng)) for each in terms.variants}
        else:
            drawn = dict(_stated(profiles, laws, rng))
            terms = _terms(tuple(each for each, _ in drawn.values()), objective, max_batch)
        fleet = Fleet(
            workers,
            tuple(variant.name for variant in terms.variants),
            tuple(variant.accuracy for variant in terms.variants),
            tuple(drawn[variant.name][1] for variant in terms.variants),
            round(overhead * 1e9),
            round(request_cost * 1e9),
        )
        outcome = simulate(
            Scheduler(ObjectivePolicy(terms)),
            fleet,
            [Traffic(arrivals, rate)],
            bound_ns=bound_ns,
            duration_s=seconds,
            seed=seed,
        )
        results.append(SimulatedRate(rate, outcome.attainment >= held_share, outcome))
    if as_json:
        print_json(results)
    else:
        click.echo(_table(results))
    return 0 if all(result.held for result in results) else 1


def _stated(
    profiles: tuple[Stated, ...], laws: tuple[Stated, ...], rng: np.random.Generator
) -> list[tuple[str, tuple[VariantTerms, RunTimes]]]:
    """Name, terms and run times of every variant; accuracy is 1 where none was stated."""
    found: list[tuple[str, tuple[VariantTerms, RunTimes]]] = []
    for stated in profiles:
        profile = _read_profile(Path(stated.what))
        name = stated.name or profile.variant
        terms = VariantTerms(name, 1.0 if stated.accuracy is None else stated.accuracy, profile)
        found.append((name, (terms, MeasuredRunTimes(profile, rng))))
    for number, stated in enumerate(laws, 1):
        name = stated.name or f"law{number}"
        run_times = AffineRunTimes(*parse_law(stated.what), rng)
        accuracy = 1.0 if stated.accuracy is None else stated.accuracy
        found.append((name, (VariantTerms(name, accuracy, run_times.profile(name, rng)), run_times)))
    names = [name for name, _ in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InvalidConfiguration(f"two variants are called {min(twice)!r}; name them: --law 'NAME=2+8b ms@0.8'")
    if len(found) > 1 and any(stated.accuracy is None for stated in (*profiles, *laws)):
        raise InvalidConfiguration(
            "with several variants each needs its accuracy, such as @0.79: that is what is traded"
        )
    return found


def _model_terms(reference: str, variant: str, objective: Objective, workers: int, threads: int) -> ObjectiveTerms:
    """What a node on this machine would hold for the model."""
    registry = Registry.default()
    bundle = registry.resolve(reference)
    config = ModelConfig(bundle, registry.folder(bundle), workers, threads, objective=objective, variant=variant)
    return terms_of(config, Limits(), engine_fingerprint)


def _profile_of(variant: VariantTerms) -> Profile:
    if variant.profile is None:
        raise InvalidConfiguration(
            f"variant {variant.name!r} was not measured on this machine with so many threads: setpoint optimize does"
        )
    return variant.profile


def _read_profile(path: Path) -> Profile:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Profile)
    except msgspec.DecodeError as error:
        raise InvalidConfiguration(f"{path} is not a profile: {error}") from None


def _terms(variants: tuple[VariantTerms, ...], objective: Objective, max_batch: int) -> ObjectiveTerms:
    """Variants within the drop that the objective allows from the most accurate one, in points of accuracy."""
    best = max(variant.accuracy for variant in variants)
    floor = best - objective.drop.bound / 100 - 1e-9 if objective.drop is not None else 0.0
    assert objective.latency is not None, "checked by the command"
    return ObjectiveTerms.holding(objective.latency, allowed_variants(variants, floor), batch_limit_rows=max_batch)


def _table(results: list[SimulatedRate]) -> str:
    names = list(results[0].outcome.variants)
    several = len(names) > 1
    header = ["RATE/s", "ATTAINED", "GOODPUT/s", "P50 ms", "P99 ms", "REFUSED", "WITHIN ms", "BATCH", "BUSY", "HELD"]
    rows = []
    for result in results:
        outcome = result.outcome
        refused = sum(outcome.refused.values()) / outcome.offered if outcome.offered else 0.0
        row = [
            f"{result.rate_per_s:g}",
            f"{outcome.attainment:.2%}",
            f"{outcome.goodput_per_s:.1f}",
            f"{outcome.p50_ms:.3g}",
            f"{outcome.p99_ms:.3g}",
            f"{refused:.2%}",
            f"{outcome.refusal_p99_ms:.3g}",
            f"{outcome.mean_batch_rows:.1f}",
            f"{outcome.utilisation:.0%}",
            "yes" if result.held else "no",
        ]
        if several:
            row += [f"{outcome.mean_accuracy:.4f}", *(f"{share:.0%}" for share in outcome.variants.values())]
        rows.append(row)
    if several:
        header += ["ACCURACY", *names]
    return render(header, rows, right=header)
