"""Which HTTP server should carry Setpoint's data path?

Measures the same echo (see `echo.py`) on uvicorn, granian (ASGI and RSGI) and a bare protocol (`bare.py`), all
started at once, driven one after the other by `wrk` over keep-alive connections; the order rotates every round, and
the table shows medians. Needs `wrk` on the PATH.

    python benchmarks/http_servers/run.py [--rounds 7] [--seconds 1]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from echo import INFER_PATH, LENGTH_PATH, answer

HERE = Path(__file__).parent
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
CONNECTIONS = (1, 8, 64)
REFERENCE = "uvicorn ASGI"

GRANIAN = (
    "-m granian --host 127.0.0.1 --port {port} --workers 1 --runtime-threads 1 --blocking-threads 1 --loop uvloop"
    " --http 1 --no-ws --no-log --backlog 2048 --interface"
)
SERVERS = {
    "uvicorn ASGI": "-m uvicorn apps:asgi --host 127.0.0.1 --port {port} --loop uvloop --http httptools --ws none"
    " --lifespan off --no-access-log --log-level warning --backlog 2048",
    "granian ASGI": GRANIAN + " asginl apps:asgi",
    "granian RSGI": GRANIAN + " rsgi apps:rsgi",
    "bare protocol": "bare.py {port}",
}
# For every server alike: left to itself, glibc returns freed body buffers to the system or not by luck of the heap's
# layout, and taking them back costs 280 page faults per 600 kB request: 3.5 times the CPU, more than servers differ.
ENVIRONMENT = os.environ | {"MALLOC_TRIM_THRESHOLD_": str(256 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
BODIES = {
    INFER_PATH: b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[5.125,3.5,1.25,0.25]}]}',
    LENGTH_PATH: b'{"data":[' + b",".join([b"0.1234567"] * 60_000) + b"]}",
}


class Sample(msgspec.Struct, frozen=True):
    """One measured phase of one server."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_s_per_1000: float
    errors: int
    foreign_cores: float
    """Cores that neither the server nor wrk used, but somebody did: the noise."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, path: str, body: bytes) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", path, body, {"content-type": "application/json"})
    response = connection.getresponse()
    payload = response.read()
    connection.close()
    if response.status != 200:
        raise SystemExit(f"expected 200 from port {port}{path}, got {response.status}: {payload[:200]!r}")
    return payload


def wait_until_ready(port: int, deadline_s: float = 15.0) -> None:
    end_s = time.perf_counter() + deadline_s
    while time.perf_counter() < end_s:
        try:
            ask(port, INFER_PATH, BODIES[INFER_PATH])
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"no server on port {port} after {deadline_s} s")


def tree(pid: int) -> list[int]:
    """`pid` and its living descendants (granian's server is a child of the process we start)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid] + [below for child in children for below in tree(int(child))]


def cpu_s(pids: list[int]) -> float:
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(one[11]) + int(one[12]) for one in fields) / TICKS_PER_S


def busy_s() -> float:
    """CPU-seconds used by everybody on this machine, steal included, idle and iowait not."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_S


def rss_mb(pids: list[int]) -> float:
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids) * PAGE_BYTES / 1e6


def load(port: int, path: str, body_file: Path, connections: int, seconds: int) -> dict[str, float]:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", "load.lua"]
    command += [f"http://127.0.0.1:{port}{path}", "--", str(body_file)]
    output = subprocess.run(command, cwd=HERE, check=True, capture_output=True, text=True).stdout
    result: dict[str, float] = json.loads(output.rpartition("RESULT ")[2])
    return result


def measure(pid: int, port: int, path: str, body_file: Path, connections: int, seconds: int) -> Sample:
    pids = tree(pid)
    server_s, all_s = cpu_s(pids), busy_s()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    wrk_s = usage.ru_utime + usage.ru_stime
    start_s = time.perf_counter()
    result = load(port, path, body_file, connections, seconds)
    elapsed_s = time.perf_counter() - start_s
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    server_s, wrk_s = cpu_s(pids) - server_s, usage.ru_utime + usage.ru_stime - wrk_s
    return Sample(
        requests_per_s=result["requests"] / result["duration_us"] * 1e6,
        p50_ms=result["p50_us"] / 1e3,
        p99_ms=result["p99_us"] / 1e3,
        cpu_s_per_1000=server_s / result["requests"] * 1e3,
        errors=int(result["errors"]),
        foreign_cores=max(0.0, busy_s() - all_s - server_s - wrk_s) / elapsed_s,
    )


def report(samples: dict[tuple[str, int, str], list[Sample]], idle_mb: list[float], loaded_mb: list[float]) -> None:
    print("| route | connections | server | req/s | ratio | spread | p50 ms | p99 ms | CPU-s/1000 | ratio | errors |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for (path, connections, name), rows in samples.items():
        label = "infer" if path == INFER_PATH else f"{len(BODIES[path]) // 1000} kB"
        middle = {field: statistics.median(getattr(row, field) for row in rows) for field in Sample.__struct_fields__}
        rates = [row.requests_per_s for row in rows]
        spread = (max(rates) - min(rates)) / middle["requests_per_s"]
        # Ratios are taken round by round, then their median: neighbours in time share the same disturbance.
        pairs = list(zip(rows, samples[path, connections, REFERENCE], strict=True))
        ratio = statistics.median(row.requests_per_s / other.requests_per_s for row, other in pairs)
        cpu_ratio = statistics.median(row.cpu_s_per_1000 / other.cpu_s_per_1000 for row, other in pairs)
        print(
            f"| {label} | {connections} | {name} | {middle['requests_per_s']:,.0f} | {ratio:.2f} | {spread:.0%} "
            f"| {middle['p50_ms']:.3f} | {middle['p99_ms']:.3f} | {middle['cpu_s_per_1000']:.3f} | {cpu_ratio:.2f} "
            f"| {sum(row.errors for row in rows)} |"
        )
    print("\n| server | resident MB, idle | after the load |\n|---|---|---|")
    for name, before_mb, after_mb in zip(SERVERS, idle_mb, loaded_mb, strict=True):
        print(f"| {name} | {before_mb:.0f} | {after_mb:.0f} |")
    foreign = sorted(row.foreign_cores for rows in samples.values() for row in rows)
    print(f"\nNoise: others used {foreign[len(foreign) // 2]:.2f} cores (median phase), at most {foreign[-1]:.2f}.")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--rounds", type=int, default=7, help="measured rounds, after one that only warms up")
    options.add_argument("--seconds", type=int, default=1, help="length of one phase, whole seconds")
    chosen = options.parse_args()
    ports = {name: free_port() for name in SERVERS}
    processes = {}
    samples: dict[tuple[str, int, str], list[Sample]] = {
        (path, connections, name): [] for path in BODIES for connections in CONNECTIONS for name in SERVERS
    }
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name, command in SERVERS.items():
                arguments = command.format(port=ports[name]).split()
                processes[name] = subprocess.Popen([sys.executable, *arguments], cwd=HERE, env=ENVIRONMENT)
            for name in SERVERS:
                wait_until_ready(ports[name])
                for path, body in BODIES.items():
                    got = ask(ports[name], path, body)
                    if got != answer(path, body):
                        raise SystemExit(f"{name} {path}: expected {answer(path, body)!r}, got {got!r}")
            idle_mb = [rss_mb(tree(processes[name].pid)) for name in SERVERS]
            files = {path: Path(folder) / path.strip("/").replace("/", "_") for path in BODIES}
            for path, body in BODIES.items():
                files[path].write_bytes(body)
            for number in range(chosen.rounds + 1):
                names = list(SERVERS)
                names = names[number % len(names) :] + names[: number % len(names)]
                for path in BODIES:
                    for connections in CONNECTIONS:
                        for name in names:
                            pid, port = processes[name].pid, ports[name]
                            sample = measure(pid, port, path, files[path], connections, chosen.seconds)
                            if number > 0:
                                samples[path, connections, name].append(sample)
                print(f"round {number} of {chosen.rounds} done", file=sys.stderr)
            report(samples, idle_mb, [rss_mb(tree(processes[name].pid)) for name in SERVERS])
        finally:
            for process in processes.values():
                process.terminate()
            for process in processes.values():
                process.wait(timeout=10)


if __name__ == "__main__":
    main()
