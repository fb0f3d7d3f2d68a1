"""``setpoint optimize``: variants of a model, measured and judged, and which of them meets the objective."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path

import click
import msgspec

from setpoint.cli.describe import short_digest
from setpoint.cli.objective_text import ObjectiveText
from setpoint.cli.optimize_report import record, serving, show
from setpoint.cli.progress import telling
from setpoint.cli.references import complete_reference_or_path
from setpoint.cli.sources import device_option, packing_options
from setpoint.cli.table import print_json
from setpoint.cli.units import Duration
from setpoint.cli.user_function import load_function
from setpoint.core import Objective
from setpoint.formats import PackOptions
from setpoint.optimize import CACHE_FOLDER, METRICS, SAME, Optimizer, Request, Study, UserMetric, draw, page, with_drop
from setpoint.plan import png, svg
from setpoint.registry import Registry, open_model

_PICTURES = (".html", ".svg", ".png")


@click.command("optimize")
@click.argument("model", metavar="PATH_OR_NAME", shell_complete=complete_reference_or_path)
@packing_options
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Examples: an .npz with one array per input, rows first, and perhaps one more with the labels.",
)
@click.option("--objective", type=ObjectiveText(), help='What to hold, such as "p99<=20ms, drop<=1%".')
@click.option(
    "--metric", metavar="METRIC", help=f"{', '.join(METRICS)}, or FILE.py:FUNCTION.  [default: as the labels suggest]"
)
@click.option("--budget", type=Duration(), default=600.0, show_default="10m", help="Begin nothing new after this time.")
@device_option
@click.option("--length", type=click.IntRange(1), help="Of free axes such as a sequence's, where rows are made up.")
@click.option(
    "--allow",
    type=click.Choice(["train"]),
    multiple=True,
    help="train: also makers that train, such as a student that learns the model's answers.",
)
@click.option(
    "--accept-made-up",
    is_flag=True,
    help="Without data: take agreement with the original on made-up rows for accuracy. Nothing is promised.",
)
@click.option("--first-use", is_flag=True, hidden=True, help="Started by serve.")
@click.option("--fresh", is_flag=True, help="Make and measure again what is remembered from earlier runs.")
@click.option("--json", "as_json", is_flag=True, help="Print a record instead of a page.")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also draw the front: FILE.html (a whole page), FILE.svg or FILE.png.",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write the record into this file.")
def command(
    model: str,
    name: str | None,
    trust: bool,
    sample: Path | None,
    engine: str | None,
    data: Path | None,
    objective: Objective | None,
    metric: str | None,
    budget: float,
    device: str,
    length: int | None,
    allow: tuple[str, ...],
    accept_made_up: bool,
    first_use: bool,
    fresh: bool,
    as_json: bool,
    picture: Path | None,
    out: Path | None,
) -> int:
    """Make and measure variants of a model, and choose.

    PATH_OR_NAME is a file, which is packed first, or a model in the registry. Variants that are accurate enough and pay
    join it as its next version. Exit code 1 where the objective cannot be held.

    \b
      setpoint optimize sentiment.onnx --data labelled.npz --objective "p99<=20ms, drop<=1%"
    """
    if picture is not None and picture.suffix.lower() not in _PICTURES:
        raise click.UsageError(f"--picture {picture}: expected a name that ends in {', '.join(_PICTURES)}")
    if first_use:
        # Who serves passes its signals on: SIGINT is to conclude from what is there, SIGTERM to end and leave nothing.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    objective = with_drop(objective) if objective else None
    registry = Registry.default()
    user_metric: UserMetric | None = load_function(metric) if metric and ":" in metric else None
    request = Request(
        objective=objective,
        data=data,
        metric="" if user_metric else metric or "",
        user_metric=user_metric,
        budget_s=budget,
        length=length,
        # What takes long and could not serve without data anyway is left to those who ask for it.
        makers=SAME if first_use and data is None and not accept_made_up else (),
        accept_made_up=accept_made_up,
        training="train" in allow,
        cache=None if fresh else registry.root / CACHE_FOLDER,
        device=device,
    )
    with telling(f"opening {model}") as tell, tempfile.TemporaryDirectory(prefix="setpoint-optimize-") as workdir:
        bundle = open_model(
            model, name=name, options=PackOptions(trust=trust, sample=sample, engine=engine or ""), registry=registry
        )
        optimizer = Optimizer(bundle, registry.folder(bundle), Path(workdir), request, tell=tell)
        if first_use:
            signal.signal(signal.SIGINT, lambda *_: optimizer.stop())
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        study, packed = optimizer.run()
        stored, _ = registry.add(packed, bundle.name)
    found = record(study, objective) | {"stored": stored.reference, "digest": stored.digest}
    if out is not None:
        out.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2))
    if picture is not None:
        picture.write_bytes(_drawn(study, objective, picture.suffix.lower()))
    if as_json:
        print_json(found)
    else:
        show(study, objective)
        click.echo(f"{'stored':<9}  {stored.reference}  {short_digest(stored.digest)}")
        click.echo(f"{'next':<9}  {serving(stored.name, study, objective, device)}")
    return 0 if study.chosen else 1


def _drawn(study: Study, objective: Objective | None, suffix: str) -> bytes:
    if suffix == ".html":
        return page(study, objective).encode()
    return png(draw(study)) if suffix == ".png" else svg(draw(study)).encode()
