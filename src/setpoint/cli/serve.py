"""``setpoint serve``: models become a service.

This process becomes the node. Packing happens in a process of its own, so no converter and no framework stays here.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click
import msgspec

from setpoint.cli.describe import signature_text
from setpoint.cli.example import calls, curl
from setpoint.cli.progress import working
from setpoint.cli.references import complete_reference_or_path
from setpoint.cli.sources import packing_options
from setpoint.cli.units import ByteSize, Duration, format_bytes, format_seconds
from setpoint.core import InvalidConfiguration, Limits, Objective
from setpoint.formats import PackOptions
from setpoint.machine import read_machine
from setpoint.node import ModelConfig, NodeConfig, run_node
from setpoint.registry import Registry, open_model

_DEFAULTS = Limits()


class ObjectiveText(click.ParamType[Objective]):
    """An objective such as ``p99<=20ms``."""

    name = "objective"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Objective:
        """Read it, or fail as misuse."""
        try:
            return value if isinstance(value, Objective) else Objective.parse(value)
        except InvalidConfiguration as error:
            self.fail(error.message, param, ctx)


@click.command("serve")
@click.argument("models", nargs=-1, required=True, metavar="PATH_OR_NAME…", shell_complete=complete_reference_or_path)
@packing_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for every network.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--grpc-port", type=click.IntRange(0, 65535), help="Also serve gRPC there; 0 takes a free one.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes per model.")
@click.option(
    "--threads", type=click.IntRange(1), help="Engine threads per worker.  [default: the cores, shared evenly]"
)
@click.option("--objective", type=ObjectiveText(), help='What to hold, such as "p99<=20ms, drop<=1%".')
@click.option(
    "--max-body",
    type=ByteSize(),
    default=_DEFAULTS.body_limit_bytes,
    help=f"Largest request body.  [default: {format_bytes(_DEFAULTS.body_limit_bytes).replace(' ', '')}]",
)
@click.option(
    "--max-json",
    type=ByteSize(),
    default=_DEFAULTS.json_limit_bytes,
    show_default=format_bytes(_DEFAULTS.json_limit_bytes).replace(" ", ""),
    help="Largest JSON body.",
)
@click.option(
    "--queue-limit",
    type=click.IntRange(1),
    default=_DEFAULTS.queue_limit_rows,
    show_default=True,
    help="Rows that may wait for one model; more are refused.",
)
@click.option(
    "--request-timeout",
    type=Duration(),
    default=_DEFAULTS.request_timeout_s,
    help=f"An older request is refused instead of computed.  [default: {format_seconds(_DEFAULTS.request_timeout_s)}]",
)
@click.option(
    "--run-timeout",
    type=Duration(),
    default=_DEFAULTS.run_timeout_s,
    help=f"A worker that holds one batch longer is replaced.  [default: {format_seconds(_DEFAULTS.run_timeout_s)}]",
)
@click.option(
    "--drain-timeout",
    type=Duration(),
    default=_DEFAULTS.drain_timeout_s,
    help=f"How long shutting down waits for accepted requests.  [default: {format_seconds(_DEFAULTS.drain_timeout_s)}]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one record on one line when ready.")
@click.option("--until-stdin-closes", is_flag=True, help="Also end when standard input ends, as with its starter.")
def command(
    models: tuple[str, ...],
    name: str | None,
    trust: bool,
    sample: Path | None,
    host: str,
    port: int,
    grpc_port: int | None,
    workers: int,
    threads: int | None,
    objective: Objective | None,
    max_body: int,
    max_json: int,
    queue_limit: int,
    request_timeout: float,
    run_timeout: float,
    drain_timeout: float,
    as_json: bool,
    until_stdin_closes: bool,
) -> int:
    """Serve models over HTTP.

    Each PATH_OR_NAME is a file, which is packed first (see setpoint pack --help), or a model in the registry: a name,
    name:3, name:alias or name@sha256:digest. Ctrl-C finishes what was accepted and ends; a second one ends at once.

    \b
      setpoint serve sentiment.onnx
      setpoint serve sentiment:champion ranker --workers 2 --port 9000
    """
    if len(models) > 1 and (name is not None or sample is not None):
        raise click.UsageError(
            "--name and --sample go with one model; pack the others first: setpoint pack PATH --name …"
        )
    registry = Registry.default()
    options = PackOptions(trust=trust, sample=sample)
    configs = [
        _open(text, name, options, registry, workers, threads or _threads_each(workers * len(models)), objective)
        for text in models
    ]
    limits = Limits(
        body_limit_bytes=max_body,
        json_limit_bytes=max_json,
        queue_limit_rows=queue_limit,
        request_timeout_s=request_timeout,
        run_timeout_s=run_timeout,
        drain_timeout_s=drain_timeout,
    )
    lifeline = 0 if until_stdin_closes else -1
    config = NodeConfig(host, port, tuple(configs), limits, lifeline, grpc_port)
    announcement = _Announcement(config.models, as_json)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")  # to stderr
    return run_node(config, announcement.listening, announcement.ready)


def _threads_each(workers: int) -> int:
    """The cores that we may use, shared evenly: more threads than cores only take them from one another."""
    return max(1, read_machine().cores // workers)


def _open(
    text: str,
    name: str | None,
    options: PackOptions,
    registry: Registry,
    workers: int,
    threads: int,
    objective: Objective | None,
) -> ModelConfig:
    with working(f"opening {text}"):
        bundle = open_model(text, name=name, options=options, registry=registry)
        return ModelConfig(bundle, registry.folder(bundle), workers, threads, objective)


class _Announcement:
    """What is printed while a node starts: first where, then, when it can answer, how to ask."""

    def __init__(self, models: tuple[ModelConfig, ...], as_json: bool) -> None:
        self._models = models
        self._as_json = as_json
        self._url = ""
        self._grpc = ""

    def listening(self, host: str, port: int, grpc_port: int) -> None:
        """The port is bound; requests are refused until the models are ready."""
        reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
        self._url = f"http://{reachable}:{port}"
        self._grpc = f"{reachable}:{grpc_port}" if grpc_port else ""
        if not self._as_json:
            _line("listening", f"{self._url}   docs {self._url}/docs   metrics {self._url}/metrics")
            if self._grpc:
                _line("gRPC", self._grpc)

    def ready(self) -> None:
        """Every model can answer."""
        if self._as_json:
            # One line, unlike other records: whoever started us reads it from a pipe that stays open.
            models = [self._record(model) for model in self._models]
            grpc = {"grpc": self._grpc} if self._grpc else {}
            click.echo(msgspec.json.encode({"url": self._url, **grpc, "models": models}))
            return
        for model in self._models:
            _line("serving", f"{model.bundle.reference}   {signature_text(model.bundle)}   {_form(model)}")
        for model in self._models:
            for call in calls(model.bundle.name, model.bundle.manifest):
                _line("try", curl(call, self._url, model.bundle.reference))

    def _record(self, model: ModelConfig) -> dict[str, Any]:
        bundle = model.bundle
        return {
            "name": bundle.name,
            "version": bundle.version,
            "digest": bundle.digest,
            "workers": model.workers,
            "threads": model.threads,
            "paths": {call.endpoint: call.path for call in calls(bundle.name, bundle.manifest)},
        }


def _form(model: ModelConfig) -> str:
    workers = f"{model.workers} worker{'s' if model.workers > 1 else ''}"
    threads = f"{model.threads} thread{'s' if model.threads > 1 else ''}"
    objective = f", objective {model.objective}" if model.objective else ""
    return f"{workers} × {threads}{objective}"


def _line(label: str, text: str) -> None:
    click.echo(f"{click.style(f'{label:<9}', bold=True)}  {text}")
