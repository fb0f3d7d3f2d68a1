"""Who is measured, with which settings, and how each wants to be asked. The one place to change a setting.

Every peer gets the same onnxruntime, the same two cores and, where its documentation offers the choice, uvloop,
httptools and no access log. `README.md` gives the reasons for the numbers.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
BUILD = REPOSITORY / "build"
VENVS = BUILD / "venvs"
WORK = BUILD / "peers"
SERVERS = HERE / "servers"
REQUIREMENTS = HERE / "requirements"

ONNXRUNTIME = "onnxruntime==1.31.1"
WORKLOADS = ("iris", "minilm")

Dialect = Literal["echo", "object", "v2", "batch-of-one"]


@dataclass(frozen=True)
class Case:
    """One request and its right answer: flat lists of numbers by tensor name, one row."""

    inputs: dict[str, list[float]]
    datatypes: dict[str, str]
    outputs: dict[str, list[float]]


@dataclass(frozen=True)
class Settings:
    """workers: processes (or copies) that run the model; threads: onnxruntime threads in each.

    batch_rows and window_ms: the largest batch and how long a row may wait for company (0: no window).
    """

    workers: int = 1
    threads: int = 1
    batch_rows: int = 1
    window_ms: float = 0.0

    def __str__(self) -> str:
        batching = f", {self.batch_rows} rows" if self.batch_rows > 1 else ""
        window = f" / {self.window_ms:g} ms" if self.window_ms else ""
        return f"{self.workers} × {self.threads}{batching}{window}"


@dataclass(frozen=True)
class Peer:
    """A server under test. `script` runs in a virtual environment; None means the Setpoint command.

    settings: by workload; a workload without settings is not measured on this peer.
    environment and package (whose version is shown) are the peer's own name unless said otherwise.
    """

    name: str
    title: str
    requires: tuple[str, ...]
    script: tuple[str, ...] | None
    dialect: Dialect
    path: str
    settings: dict[str, Settings] = field(default_factory=dict)
    ceiling: bool = False
    environment: str = ""
    package: str = ""
    variables: dict[str, str] = field(default_factory=dict)

    def command(self, python: Path) -> list[str]:
        """The command line in the peer's environment whose interpreter is `python`."""
        assert self.script is not None
        first, *rest = self.script
        if first.endswith(".py"):
            return [str(python), str(SERVERS / first), *rest]
        return [str(python), str(python.parent / first), *rest]


UVICORN = ("uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0")

MOSEC_SETTINGS = {
    "iris": Settings(workers=1, threads=1, batch_rows=64, window_ms=2),
    "minilm": Settings(workers=1, threads=2, batch_rows=32, window_ms=5),
}

SETPOINT = Peer(
    name="setpoint",
    title="Setpoint",
    requires=(),
    script=None,
    dialect="v2",
    path="/v2/models/{workload}/infer",
    settings={"iris": Settings(workers=1, threads=2), "minilm": Settings(workers=1, threads=2)},
)

PEERS: tuple[Peer, ...] = (
    SETPOINT,
    Peer(
        name="echo",
        title="bare ASGI echo (uvicorn)",
        requires=(*UVICORN, "granian[uvloop]==2.8.7"),
        script=("echo_server.py",),
        dialect="echo",
        path="/",
        settings={"iris": Settings()},
        ceiling=True,
        package="uvicorn",
    ),
    Peer(
        name="fastapi",
        title="FastAPI + onnxruntime",
        requires=("fastapi", *UVICORN, ONNXRUNTIME),
        script=("fastapi_server.py",),
        dialect="object",
        path="/predict",
        settings={"iris": Settings(workers=2, threads=1), "minilm": Settings(workers=2, threads=1)},
    ),
    # On MiniLM there is no single best: two threads in each worker are quicker for a lone caller, slower for many.
    Peer(
        name="fastapi-2x2",
        title="FastAPI + onnxruntime, 2 × 2",
        requires=(),
        script=("fastapi_server.py",),
        dialect="object",
        path="/predict",
        settings={"minilm": Settings(workers=2, threads=2)},
        environment="fastapi",
        package="fastapi",
    ),
    Peer(
        name="litserve",
        title="LitServe",
        requires=("litserve", *UVICORN, ONNXRUNTIME),
        script=("litserve_server.py",),
        dialect="object",
        path="/predict",
        settings={
            "iris": Settings(workers=1, threads=1, batch_rows=64, window_ms=2),
            "minilm": Settings(workers=1, threads=2, batch_rows=32, window_ms=5),
        },
    ),
    Peer(
        name="bentoml",
        title="BentoML",
        requires=("bentoml", *UVICORN, ONNXRUNTIME),
        script=("bentoml", "serve"),
        dialect="batch-of-one",
        path="/predict",
        settings={
            "iris": Settings(workers=2, threads=1, batch_rows=64),
            "minilm": Settings(workers=2, threads=1, batch_rows=32),
        },
    ),
    Peer(
        name="mlserver",
        title="MLServer",
        # From uvloop 0.22 on MLServer 1.7.1's worker processes die at start ("There is no current event loop").
        requires=("mlserver", "uvloop<0.22", "httptools==0.9.0", ONNXRUNTIME),
        script=("mlserver_runtime.py",),
        dialect="v2",
        path="/v2/models/{workload}/infer",
        settings={
            "iris": Settings(workers=0, threads=1, batch_rows=64, window_ms=2),  # 0: in the server's own process
            "minilm": Settings(workers=1, threads=2, batch_rows=32, window_ms=5),
        },
    ),
    Peer(
        name="mosec",
        title="mosec",
        requires=("mosec", "orjson", ONNXRUNTIME),
        script=("mosec_server.py",),
        dialect="object",
        path="/inference",
        settings=MOSEC_SETTINGS,
    ),
    # Its documentation invites one to override the two JSON methods; the strongest mosec there is, so it is here too.
    Peer(
        name="mosec-orjson",
        title="mosec with orjson",
        requires=(),
        script=("mosec_server.py",),
        dialect="object",
        path="/inference",
        settings=MOSEC_SETTINGS,
        environment="mosec",
        package="mosec",
        variables={"PEER_JSON": "orjson"},
    ),
)

# Run only when asked for by name: the ceiling if the node's HTTP server is granian.
OPTIONAL: tuple[Peer, ...] = (
    Peer(
        name="echo-granian",
        title="bare RSGI echo (granian)",
        requires=(),
        script=("echo_granian_server.py",),
        dialect="echo",
        path="/",
        settings={"iris": Settings()},
        ceiling=True,
        environment="echo",
        package="granian",
    ),
)


def environment_name(peer: Peer) -> str:
    """The virtual environment that the peer runs in."""
    return peer.environment or peer.name


def request_body(peer: Peer, case: Case) -> bytes:
    """The JSON body that asks `peer` for one row; compact, numbers written the same way for all."""
    document: Any
    if peer.dialect == "v2":
        document = {
            "inputs": [
                {"name": name, "shape": [1, len(data)], "datatype": case.datatypes[name], "data": data}
                for name, data in case.inputs.items()
            ]
        }
    elif peer.dialect == "batch-of-one":
        # BentoML: a batch of plain vectors where there is one input, of objects where there are several.
        row = next(iter(case.inputs.values())) if len(case.inputs) == 1 else case.inputs
        document = {"rows": [row]}
    else:
        document = case.inputs
    return json.dumps(document, separators=(",", ":")).encode()


def read_answer(peer: Peer, body: bytes) -> dict[str, list[float]]:
    """The numbers in an answer by output name, flattened.

    Raises KeyError, TypeError, AttributeError or ValueError where the answer lacks the promised shape.
    """
    document = json.loads(body)
    if peer.dialect == "v2":
        return {tensor["name"]: flat(tensor["data"]) for tensor in document["outputs"]}
    if peer.dialect == "batch-of-one":
        (row,) = document
        return {name: flat(value) for name, value in row.items()} if isinstance(row, dict) else {"embedding": flat(row)}
    return {name: flat(value) for name, value in document.items()}


def flat(value: Any) -> list[float]:
    """A number or nested lists of numbers as one list."""
    if isinstance(value, list):
        return [number for item in value for number in flat(item)]
    return [float(value)]


def python_of(environment: str) -> Path:
    """The interpreter of one of the harness's virtual environments."""
    folder = "Scripts" if sys.platform == "win32" else "bin"
    return VENVS / environment / folder / "python"
