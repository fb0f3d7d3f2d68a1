"""From a published model to a measured service: the script behind `make demo`.

    python examples/magika/demo.py [--once] [--folder DIR]

Packs the network of the PyPI package `magika` twice (as it is, and inside the class of identify.py), serves both, asks
about real files, compares every answer with the official library's, sends a burst of load, and prints what it measured.
"""

from __future__ import annotations

import argparse
import http.client
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from burst import burst, post
from identify import Settings, label_without_network, tokens

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
BUILD = REPOSITORY / "build" / "magika"
SETPOINT = Path(sys.executable).parent / "setpoint"
BYTES = "application/octet-stream"
CLASS_PATH, NETWORK_PATH = "/models/magika/identify", "/v2/models/magika-network/infer"
MOST_FILES, MOST_BYTES = 200, 1_000_000  # of each folder; of each file
BURST_CONNECTIONS, BURST_SECONDS = 8, 4.0


def prepare() -> Path:
    """Put the class, the network and its two JSON files side by side; returns the folder."""
    spec = importlib.util.find_spec("magika")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the package magika is not installed: pip install 'setpoint[examples]'")
    package = Path(spec.submodule_search_locations[0])
    BUILD.mkdir(parents=True, exist_ok=True)
    (network,) = package.glob("models/*/model.onnx")
    for source in (
        HERE / "identify.py",
        network,
        network.with_name("config.min.json"),
        package / "config" / "content_types_kb.min.json",
    ):
        shutil.copyfile(source, BUILD / source.name)
    return BUILD


def real_files(folder: Path) -> list[Path]:
    """Up to MOST_FILES files, spread evenly over a folder; without hidden, built and installed ones."""
    skipped = {"build", "dist", "site-packages", "node_modules"}
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in skipped and not name.startswith("."))
        found += [Path(place, name) for name in sorted(names)]
    found = [
        file for file in found if file.is_file() and file.stat().st_size <= MOST_BYTES and os.access(file, os.R_OK)
    ]
    return found[:: max(1, -(-len(found) // MOST_FILES))]


def ask(connection: http.client.HTTPConnection, path: str, body: bytes, content_type: str) -> Any:
    """The JSON answer to one POST; leaves with the server's own words on anything but 200."""
    connection.request("POST", path, body, {"Content-Type": content_type})
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise SystemExit(f"POST {path}: {response.status} {answer[:500].decode(errors='replace')}")
    return json.loads(answer)


def network_request(content: bytes, settings: Settings) -> bytes:
    """The Open Inference Protocol (V2) request that asks the bare network about one file."""
    row = tokens(content, settings)
    tensor = {"name": "bytes", "datatype": "INT32", "shape": list(row.shape), "data": row.ravel().tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def differences(port: int, contents: dict[Path, bytes], settings: Settings) -> list[str]:
    """Ask both services about every file; returns one line for each answer unlike the official library's."""
    from magika import Magika  # the official library, here only to compare with

    official = Magika()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    found = []
    for path, content in contents.items():
        expected = official.identify_bytes(content)
        (answer,) = ask(connection, CLASS_PATH, content, BYTES)  # a raw body is a batch of one
        if answer["label"] != expected.output.label:
            found.append(f"{path}: magika says {answer['label']}, the official library {expected.output.label}")
        if label_without_network(content, settings) is None:
            scores = ask(connection, NETWORK_PATH, network_request(content, settings), "application/json")
            guess = settings.target_labels_space[int(np.argmax(scores["outputs"][0]["data"]))]
            if guess != expected.dl.label:
                found.append(f"{path}: magika-network says {guess}, the official library {expected.dl.label}")
    return found


def batches(port: int, model: str) -> tuple[float, float]:
    """Rows and batches that a model has run so far, from /metrics."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()

    def value(name: str) -> float:
        found = re.search(rf'^setpoint_batch_rows_{name}{{[^}}]*model="{model}"[^}}]*}} (\S+)$', text, re.MULTILINE)
        if found is None:
            raise SystemExit(f"/metrics has no setpoint_batch_rows_{name} of {model}")
        return float(found[1])

    return value("sum"), value("count")


def resident_mb(pid: int) -> dict[str, float]:
    """Resident memory of the node and of every process below it, in MB, from /proc."""
    status = {}
    for file in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in file.read_text().splitlines() if ":\t" in line)
        except OSError:
            continue  # it ended while we looked
        status[int(fields["Pid"])] = (int(fields["PPid"]), int(fields.get("VmRSS", "0").split()[0]) / 1e3)
    below = {pid}
    while more := {child for child, (parent, _) in status.items() if parent in below} - below:
        below |= more
    return {("node" if one == pid else f"worker {one}"): status[one][1] for one in sorted(below)}


def measure(port: int, contents: list[bytes], settings: Settings) -> int:
    """A burst against each model, printed as a table; returns how many requests failed."""
    unclear = [content for content in contents if label_without_network(content, settings) is None]
    requests = {
        "magika": [post(CLASS_PATH, content, BYTES) for content in contents],
        "magika-network": [
            post(NETWORK_PATH, network_request(content, settings), "application/json") for content in unclear
        ],
    }
    print(f"\nburst     {BURST_SECONDS:.0f} s each, {BURST_CONNECTIONS} connections, closed loop")
    print(f"{'model':<16}{'p50 ms':>9}{'p99 ms':>9}{'requests/s':>12}{'rows/batch':>12}{'failed':>8}")
    failed = 0
    for model, prepared in requests.items():
        rows, count = batches(port, model)
        outcome = burst(port, prepared, BURST_CONNECTIONS, BURST_SECONDS)
        rows_after, count_after = batches(port, model)
        mean = (rows_after - rows) / max(count_after - count, 1)
        print(
            f"{model:<16}{outcome.p50_ms:>9.1f}{outcome.p99_ms:>9.1f}{outcome.per_second:>12.0f}"
            f"{mean:>12.1f}{outcome.failed:>8}"
        )
        failed += outcome.failed
    return failed


def free_port(wanted: int) -> int:
    """`wanted`, or any free port where that one is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(node: subprocess.Popen[bytes], port: int, timeout_s: float = 60) -> None:
    """Return once the node says that it is ready; leave when it ended instead."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if node.poll() is not None:
            raise SystemExit(f"setpoint serve ended with exit code {node.returncode}")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/v2/health/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass  # nothing listens yet
        time.sleep(0.05)
    raise SystemExit(f"setpoint serve was not ready within {timeout_s:.0f} s")


def show(port: int, node: subprocess.Popen[bytes], folder: Path) -> bool:
    """Ask, compare, measure; True when every answer agreed and no request failed."""
    settings = msgspec.json.decode((BUILD / "config.min.json").read_bytes(), type=Settings)
    files = [*real_files(REPOSITORY), *real_files(folder)]
    contents = {path: path.read_bytes() for path in files}
    print(f"\ncomparing {len(contents)} real files with the official library ...", flush=True)
    wrong = differences(port, contents, settings)
    print(f"compared  {len(wrong)} answers differ", *wrong[:20], sep="\n          ")
    failed = measure(port, list(contents.values()), settings)
    memory = resident_mb(node.pid)
    print("memory    " + ", ".join(f"{name} {megabytes:.0f} MB" for name, megabytes in memory.items()))
    return not wrong and not failed


def stop(node: subprocess.Popen[bytes]) -> int:
    """Ask the node to drain and end; its exit code."""
    node.send_signal(signal.SIGTERM)
    try:
        return node.wait(timeout=30)
    except subprocess.TimeoutExpired:
        node.kill()
        raise SystemExit("setpoint serve did not end within 30 s of SIGTERM") from None


def main() -> int:
    """Exit code 0 when every answer agreed, nothing failed, and the node ended cleanly."""
    parser = argparse.ArgumentParser(description="Serve Magika, compare it with the official library, measure it.")
    parser.add_argument("--once", action="store_true", help="stop after the table instead of staying up")
    parser.add_argument(
        "--folder", type=Path, default=Path(sysconfig.get_paths()["stdlib"]), help="ask about its files"
    )
    parser.add_argument("--port", type=int, default=8000, help="8000, or a free one where it is taken")
    arguments = parser.parse_args()

    folder = prepare()
    environment = {"SETPOINT_HOME": str(BUILD / "registry")} | os.environ  # leaves the user's own models alone
    for source, name in ((folder / "model.onnx", "magika-network"), (folder / "identify.py", "magika")):
        if subprocess.run([SETPOINT, "pack", source, "--name", name], env=environment).returncode:
            return 1  # it has said why
    port = free_port(arguments.port)
    # In a session of its own: Ctrl-C then reaches only this script, which stops the node in order.
    node = subprocess.Popen(
        [SETPOINT, "serve", "magika", "magika-network", "--port", str(port)], env=environment, start_new_session=True
    )
    good = False
    try:
        wait_until_ready(node, port)
        good = show(port, node, arguments.folder)
        if not arguments.once:
            address = f"http://127.0.0.1:{port}"
            print(f"\ntry       curl --data-binary @README.md -H 'Content-Type: {BYTES}' {address}{CLASS_PATH}")
            print(f"          curl {address}/v2/models/magika-network")
            print(f"          open {address}/docs      Ctrl-C ends it")
            node.wait()
    except KeyboardInterrupt:
        print("\nstopping ...")
    finally:
        code = stop(node) if node.poll() is None else node.returncode
    if code:
        print(f"setpoint serve ended with exit code {code}")
    return 0 if good and code == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
