"""``setpoint serve``: models become a service.

This process becomes the node. Packing happens in a process of its own, so no converter and no framework stays here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from setpoint.cli.admin_token import read_admin_token
from setpoint.cli.config_options import config_option, flags_given, setting
from setpoint.cli.config_settings import Settings, blamed, resolve
from setpoint.cli.describe import signature_text
from setpoint.cli.example import calls, curl
from setpoint.cli.first_use import optimized
from setpoint.cli.many import expanded
from setpoint.cli.progress import working
from setpoint.cli.references import complete_reference_or_path
from setpoint.cli.sources import packing_options
from setpoint.core import InvalidConfiguration, Limits
from setpoint.engines import CPU
from setpoint.machine import engine_fingerprint, read_machine
from setpoint.node import ModelConfig, NodeConfig, best_layout, run_node, terms_of
from setpoint.registry import Registry, open_model

_SHOWN_MODELS = 10


def serving_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The arguments and options of ``serve`` that say what it is to do; ``config show`` takes the same.

    An option that is a setting says only its words; name, type and default are the record's (``config_keys``).
    """
    for option in reversed(
        (
            click.argument("models", nargs=-1, metavar="[PATH_OR_NAME]…", shell_complete=complete_reference_or_path),
            config_option,
            packing_options,
            setting("--host", help="Address to listen on; 0.0.0.0 for every network."),
            setting("--port", help="0 takes a free one."),
            setting("--grpc-port", help="Also serve gRPC there; 0 takes a free one."),
            setting(
                "--tls-cert", "tls_certificate", help="Encrypt with this certificate (PEM); SIGHUP reads it again."
            ),
            setting("--tls-key", help="Its private key, where it stands in a file of its own."),
            setting(
                "--cors-origin",
                "cors_origins",
                multiple=True,
                metavar="URL",
                help="Whose pages may call the node, such as https://app.example.com; * for everybody's. Repeatable.",
            ),
            setting(
                "--shared-memory",
                help="Let clients on this host pass tensors in shared memory. Whoever reaches the port can then read"
                " and write all shared memory of this user.",
            ),
            setting("--workers", help="Processes per model."),
            setting(
                "--memory",
                "node.memory_bytes",
                help="What the node and all workers may hold together, such as 2GiB; idle models are parked for others"
                " and woken when they are asked.  [default: no bound, every model stays awake]",
            ),
            setting(
                "--admin-token-file",
                help="Let who shows the token in this file load and unload models; SETPOINT_ADMIN_TOKEN holds one too."
                "  [default: nobody may]",
            ),
            setting("--threads", help="Engine threads per worker.  [default: the cores, shared evenly]"),
            setting(
                "--device",
                "models.device",
                help="Compute on it: cuda, tensorrt, coreml, directml, gpu, npu …; refused where it is absent, but for"
                " another one behind it, as in cuda,cpu.",
            ),
            setting("--objective", help='What to hold, such as "p99<=20ms, drop<=1%".'),
            setting(
                "--optimize/--no-optimize",
                "models.optimize",
                type=bool,
                help="Where the objective says what may be lost, make and measure variants before the first use.",
            ),
            setting("--data", help="Judge them by these examples: an .npz with one array per input, perhaps labels."),
            setting(
                "--accept-made-up",
                help="Without data: take agreement with the original on made-up rows for accuracy.",
            ),
            setting("--budget", "models.optimize_budget_s", help="For making and measuring variants."),
            setting("--variant", help="Answer with this variant only.  [default: as the objective asks]"),
            setting(
                "--max-batch-size",
                "models.batching.max_batch_size",
                help="Batch by hand, as Triton does, in place of an objective: rows of a batch at most.",
            ),
            setting(
                "--max-queue-delay-us",
                "models.batching.max_queue_delay_us",
                help="By hand: how long the oldest request waits for others.",
            ),
            setting("--max-queue-size", "models.batching.max_queue_size", help="By hand: requests that may wait."),
            setting(
                "--queue-timeout-us",
                "models.batching.default_timeout_us",
                help="By hand: how long a request may wait; 0 is for ever.",
            ),
            setting(
                "--cache",
                "models.cache.budget_bytes",
                help="Keep each model's answers in so much memory; requests that are alike share one run."
                "  [default: no cache]",
            ),
            setting("--cache-ttl", "models.cache.ttl_s", help="An older answer is computed again."),
            setting("--cache-url", "models.cache.url", help="Share answers with other nodes in a Redis."),
            setting(
                "--cache-shared",
                "models.cache.shared",
                help="Tenants may be given answers that were computed for others.",
            ),
            setting("--max-body", "limits.body_limit_bytes", help="Largest request body."),
            setting("--max-json", "limits.json_limit_bytes", help="Largest JSON body."),
            setting(
                "--queue-limit", "limits.queue_limit_rows", help="Rows that may wait for one model; more are refused."
            ),
            setting(
                "--request-timeout",
                "limits.request_timeout_s",
                help="An older request is refused instead of computed.",
            ),
            setting("--run-timeout", "limits.run_timeout_s", help="A worker that holds one batch longer is replaced."),
            setting(
                "--drain-timeout",
                "limits.drain_timeout_s",
                help="How long shutting down waits for accepted requests.",
            ),
        )
    ):
        function = option(function)
    return function


@click.command("serve")
@serving_options
@click.option("--all", "everything", is_flag=True, help="Serve every model of the registry.")
@click.option("--json", "as_json", is_flag=True, help="Print one record on one line when ready.")
@click.option("--until-stdin-closes", is_flag=True, help="Also end when standard input ends, as with its starter.")
@click.pass_context
def command(
    context: click.Context,
    /,
    models: tuple[str, ...],
    config: Path | None,
    everything: bool,
    as_json: bool,
    until_stdin_closes: bool,
    **_: Any,
) -> int:
    """Serve models over HTTP.

    Each PATH_OR_NAME is a file, which is packed first (see setpoint pack --help), a folder of such files, or a model
    in the registry: a name, name:3, name:alias or name@sha256:digest. Without one, setpoint.toml says what is served.
    Flags go before the environment (SETPOINT_NODE_PORT …), and that before the file; setpoint config show tells what
    holds. Ctrl-C finishes what was accepted and ends; a second one ends at once.

    \b
      setpoint serve sentiment.onnx
      setpoint serve sentiment:champion ranker --workers 2 --port 9000
    """
    registry = Registry.default()
    models = expanded(models, registry, everything=everything)
    settings = resolve(flags_given(context), models, os.environ, config)
    lifeline = 0 if until_stdin_closes else -1

    def say(label: str, text: str) -> None:
        _line(label, text, err=as_json)

    opened = tuple(_open(settings, index, registry, say, lifeline) for index in range(len(settings.models)))
    fields = settings.node_fields()
    token = read_admin_token(fields["admin_token_file"], os.environ)
    node = NodeConfig(models=opened, lifeline=lifeline, registry=registry, admin_token=token, **fields)
    announcement = _Announcement(node.models, as_json, "http" if node.tls_certificate is None else "https")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")  # to stderr
    return run_node(node, announcement.listening, announcement.ready)


def _open(
    settings: Settings, index: int, registry: Registry, say: Callable[[str, str], None], lifeline: int
) -> ModelConfig:
    values = settings.models[index]
    source = values["source"].value
    with working(f"opening {source}"):
        bundle = open_model(source, name=values["name"].value, options=settings.pack_options(index), registry=registry)
        try:
            follows = source if source in {f"{bundle.name}:{alias}" for alias in bundle.aliases} else ""
            fields = settings.model_fields(index)
            model = ModelConfig(bundle=bundle, folder=registry.folder(bundle), follows=follows, **fields)
        except InvalidConfiguration as error:
            raise blamed(error, values) from error
    try:
        bundle = optimized(model, source, settings.first_use(index), registry, say, lifeline)
    except InvalidConfiguration as error:
        raise blamed(error, values) from error
    model = msgspec.structs.replace(model, bundle=bundle, folder=registry.folder(bundle))
    if model.objective is None or not settings.layout_is_free(index):
        return model
    cores = max(1, read_machine().cores // len(settings.models))
    layout = best_layout(model, settings.node_fields()["limits"], engine_fingerprint, cores)
    return model if layout is None else msgspec.structs.replace(model, workers=layout[0], threads=layout[1])


class _Announcement:
    """What is printed while a node starts: first where, then, when it can answer, how to ask."""

    def __init__(self, models: tuple[ModelConfig, ...], as_json: bool, scheme: str) -> None:
        self._models = models
        self._scheme = scheme
        self._as_json = as_json
        self._url = ""
        self._grpc = ""

    def listening(self, host: str, port: int, grpc_port: int) -> None:
        """The port is bound; requests are refused until the models are ready."""
        reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
        self._url = f"{self._scheme}://{reachable}:{port}"
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
        shown = self._models[:_SHOWN_MODELS]
        for model in shown:
            _line("serving", f"{model.bundle.reference}   {signature_text(model.bundle)}   {_form(model)}")
        for model in shown:
            if model.objective is not None and model.batching is None and not _measured_here(model):
                reference = model.bundle.reference
                _line("note", f"how long {reference} runs is learned as requests come; setpoint optimize measures it")
        if more := len(self._models) - len(shown):
            _line("", f"and {more} more, which {self._url}/docs lists")
        for model in shown:
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


def _measured_here(model: ModelConfig) -> bool:
    """Whether this machine's run times of what answers are known before the first request."""
    return terms_of(model, Limits(), engine_fingerprint).variants[0].profile is not None


def _form(model: ModelConfig) -> str:
    workers = f"{model.workers} worker{'s' if model.workers > 1 else ''}"
    threads = f"{model.threads} thread{'s' if model.threads > 1 else ''}"
    objective = f", objective {model.objective}" if model.objective else ""
    device = f" on {model.device}" if model.device != CPU else ""
    return f"{workers} × {threads}{device}{objective}"


def _line(label: str, text: str, *, err: bool = False) -> None:
    click.echo(f"{click.style(f'{label:<9}', bold=True)}  {text}", err=err)
