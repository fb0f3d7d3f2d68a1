"""``sp.serve``: the same node that the command starts, as a background process that ends with its ``with`` block."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from numpy.typing import ArrayLike, NDArray

from setpoint.client import Client
from setpoint.core import InvalidConfiguration, Objective, SetpointError
from setpoint.embed.sources import Source, materialised
from setpoint.engines import CPU
from setpoint.formats import PackOptions
from setpoint.registry import Bundle, Registry, open_model, pack_source

_STOP_TIMEOUT_S = 60.0


class Service:
    """A running node with one model. Leave its ``with`` block, or call ``close``, and nothing is left of it.

    Attributes:
        url: where it listens.
        name: what the model is called there.
        client: for everything that the shortcuts below do not cover.
    """

    def __init__(self, process: subprocess.Popen[str], url: str, name: str, folder: Any) -> None:
        self._process = process
        self._folder = folder
        self.url = url
        self.name = name
        self.client = Client(url)

    def infer(self, inputs: Mapping[str, ArrayLike] | None = None, /, **named: ArrayLike) -> dict[str, NDArray[Any]]:
        """Run the model on named arrays: ``service.infer(X=[[5.1, 3.5, 1.4, 0.2]])``, or a mapping of them.

        Raises:
            SetpointError: as the node answered.
        """
        return self.client.infer(self.name, {**(inputs or {}), **named})

    def call(self, endpoint: str, /, **arguments: Any) -> Any:
        """Call an endpoint: ``service.call("embed", texts=["…"])``; returns the decoded JSON answer.

        Raises:
            SetpointError: as the node answered.
        """
        return self.client.call(f"{self.name}/{endpoint}", **arguments)

    def stream(self, endpoint: str, /, **arguments: Any) -> Iterator[Any]:
        """Call a streaming endpoint; yields each event's decoded JSON."""
        return self.client.stream(f"{self.name}/{endpoint}", **arguments)

    def metrics(self) -> str:
        """The node's metrics as Prometheus text."""
        return self.client.metrics()

    def close(self) -> None:
        """Drain and end the node. Safe to call twice."""
        self.client.close()
        _end(self._process)
        self._folder.cleanup()

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "running" if self._process.poll() is None else "ended"
        return f"<setpoint service {self.name!r} at {self.url}, {state}>"


def serve(
    source: Source,
    *,
    objective: str | None = None,
    name: str | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    workers: int = 1,
    threads: int | None = None,
    device: str = CPU,
    trust: bool = False,
    sample: str | Path | None = None,
    optimize: bool = False,
    data: str | Path | None = None,
    budget_s: float = 120.0,
) -> Service:
    """Serve a model in the background; returns when it is ready.

    Args:
        source: a path, a registry reference, an annotated function, or a fitted scikit-learn estimator.
        objective: what to hold, such as ``"p99<=20ms, drop<=1%"``.
        name: what to call it; taken from the source without.
        host, port: where to listen; port 0 takes a free one.
        workers: processes.
        threads: engine threads of each; the cores, shared evenly, without.
        device: to compute on, such as ``cuda``; with ``cuda,cpu`` the second where the first is absent.
        trust: the file may run code when it is loaded.
        sample: ``.npz`` of real rows to check a conversion with.
        optimize: where the objective says what may be lost, make and measure variants first, as the command does on
            its own. Not here: a call in a notebook or a test is expected back in seconds, and of a path or an object
            nothing is remembered. A version of the registry that is asked for, as in ``name:3``, is served as it is.
        data: ``.npz`` of examples to judge them by.
        budget_s: for making and measuring them.

    Returns:
        a running ``Service``; use it as a context manager.

    Raises:
        ConfigurationError: the source or an option is not right; the message says what to do.
        SetpointError: the node did not start.
    """
    if objective is not None:
        Objective.parse(objective)
    options = PackOptions(trust=trust, sample=None if sample is None else Path(sample))
    # Its own registry: what is served from memory or a path leaves nothing in the user's.
    folder = tempfile.TemporaryDirectory(prefix="setpoint-serve-")
    try:
        home, bundle = _bundle(source, name, options, Path(folder.name))
        free = home is not None or source == bundle.name
        # A version that is asked for is served as it is; and a path of that name would be taken for what is meant.
        asked = bundle.name if optimize and free and not Path(bundle.name).exists() else bundle.reference
        arguments = ["serve", asked, "--host", host, "--port", str(port), "--workers", str(workers)]
        arguments += ["--device", device]
        arguments += [] if threads is None else ["--threads", str(threads)]
        arguments += [] if objective is None else ["--objective", objective]
        arguments += ["--optimize", "--budget", f"{budget_s:g}s"] if optimize else ["--no-optimize"]
        arguments += [] if data is None else ["--data", str(data)]
        process = _start(arguments, home)
        try:
            return Service(process, _announced_url(process), bundle.name, folder)
        except BaseException:
            _end(process)
            raise
    except BaseException:
        folder.cleanup()
        raise


def pack(source: Source, *, name: str | None = None, trust: bool = False, sample: str | Path | None = None) -> Bundle:
    """Pack a model into the registry, as ``setpoint pack`` does; returns its bundle.

    Raises:
        ConfigurationError: the message says what to do.
    """
    options = PackOptions(trust=trust, sample=None if sample is None else Path(sample))
    with tempfile.TemporaryDirectory(prefix="setpoint-pack-") as folder:
        text, options, own_name = materialised(source, Path(folder), options)
        return pack_source(text, name=name or own_name, options=options, registry=Registry.default())[0]


def _bundle(source: Source, name: str | None, options: PackOptions, folder: Path) -> tuple[str | None, Bundle]:
    """The bundle to serve, and the registry's home where it is not the user's own."""
    if isinstance(source, str) and not Path(source.partition(":")[0]).exists():
        return None, open_model(source, registry=Registry.default())
    objects = folder / "source"
    objects.mkdir()
    text, options, own_name = materialised(source, objects, options)
    home = folder / "home"
    return str(home), open_model(text, name=name or own_name, options=options, registry=Registry(home))


def _start(arguments: list[str], home: str | None) -> subprocess.Popen[str]:
    environment = dict(os.environ) if home is None else {**os.environ, "SETPOINT_HOME": home}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "setpoint", *arguments, "--json", "--until-stdin-closes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # Ctrl-C in a notebook must not reach it: it ends with the block that it was started in.
        start_new_session=True,
    )


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None, "started with pipes"
    assert process.stdout is not None, "started with pipes"
    process.stdin.close()  # the node drains and ends with its standard input, so also when this process is killed
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _announced_url(process: subprocess.Popen[str]) -> str:
    errors = _Errors(process.stderr)
    assert process.stdout is not None, "started with a pipe"
    line = process.stdout.readline()
    if line:
        errors.pass_on()
        url: str = json.loads(line)["url"]
        return url
    status = process.wait()
    message = errors.text().strip().removeprefix("Error: ")
    if status == 2:
        raise InvalidConfiguration(message)
    raise SetpointError(message or f"the node ended with status {status} before it was ready")


class _Errors:
    """The node's standard error: kept while it starts, to explain a failure; afterwards passed on to ours."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._kept: list[str] = []
        self._passing = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._stream:
            if self._passing:
                sys.stderr.write(line)
            else:
                self._kept.append(line)
        self._stream.close()

    def pass_on(self) -> None:
        """It has started."""
        self._passing = True
        sys.stderr.write("".join(self._kept))

    def text(self) -> str:
        """All of it; the process has ended."""
        self._thread.join(timeout=5.0)
        return "".join(self._kept)
