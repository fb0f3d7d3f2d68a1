"""One virtual environment per peer under build/venvs/, filled from requirements/NAME.txt, kept while current."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from lineup import BUILD, ONNXRUNTIME, REPOSITORY, REQUIREMENTS, VENVS, WORK, Peer, environment_name, python_of

TOOLS = "tools"
TOOLS_REQUIRES = (ONNXRUNTIME, "onnx==1.23.2", "skl2onnx==1.20.0", "scikit-learn==1.9.1", "skops==0.16.0", "numpy")


class SetupFailed(Exception):
    """An environment or a file could not be made; the text is one line for the table."""


def find_uv() -> str | None:
    """uv from this checkout's environment or the search path; without it pip does the same work more slowly."""
    beside = REPOSITORY / ".venv" / "bin" / "uv"
    return str(beside) if beside.exists() else shutil.which("uv")


def log_of(name: str) -> Path:
    """Where the output of step or server `name` goes."""
    folder = WORK / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.log"


def last_line(log: Path) -> str:
    """The last line of a log that says something: usually the reason of a failure."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no output"


def run_step(name: str, commands: list[list[str]], timeout_s: float = 900) -> None:
    """Run commands one after another, output to the log; SetupFailed with the last line of it."""
    log = log_of(name)
    with log.open("w") as output:
        for command in commands:
            try:
                done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False, timeout=timeout_s)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise SetupFailed(f"{name}: {error}") from error
            if done.returncode != 0:
                raise SetupFailed(f"{name}: {last_line(log)} (log: {log.relative_to(REPOSITORY)})")


def requirement_files(environment: str) -> tuple[Path, Path | None]:
    """The lock of an environment, and the packages wanted without their dependencies (or None)."""
    without_dependencies = REQUIREMENTS / f"{environment}.nodeps.txt"
    return REQUIREMENTS / f"{environment}.txt", without_dependencies if without_dependencies.exists() else None


def ensure_environment(environment: str) -> None:
    """Make or refresh the environment when its requirement files changed; SetupFailed says why it could not be."""
    lock, without_dependencies = requirement_files(environment)
    if not lock.exists():
        raise SetupFailed(f"no {lock.relative_to(REPOSITORY)}: run `python benchmarks/peers/run.py --lock`")
    wanted = hashlib.sha256(
        lock.read_bytes() + (without_dependencies.read_bytes() if without_dependencies else b"") + sys.version.encode()
    ).hexdigest()
    stamp = VENVS / environment / ".requirements"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    python = str(python_of(environment))
    if uv := find_uv():
        make = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(VENVS / environment)]
        install = [uv, "pip", "install", "--quiet", "--python", python]
    else:
        make = [sys.executable, "-m", "venv", "--clear", str(VENVS / environment)]
        install = [python, "-m", "pip", "install", "--quiet"]
    commands = [make, [*install, "-r", str(lock)]]
    if without_dependencies:
        commands.append([*install, "--no-deps", "-r", str(without_dependencies)])
    run_step(f"setup-{environment}", commands)
    stamp.write_text(wanted)


def ensure_wrk() -> None:
    """wrk is Debian's package; as root it is installed, otherwise the remedy is said."""
    if shutil.which("wrk"):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise SetupFailed("wrk is missing: apt-get install wrk")
    run_step("setup-wrk", [["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "wrk"]])


def ensure_model(workload: str) -> None:
    """Build the workload's model and cases when they are missing or older than the scripts that make them."""
    sources = [REPOSITORY / "benchmarks/peers/models.py"]
    if workload == "minilm":
        sources.append(REPOSITORY / "examples/minilm/build_encoder.py")
    cases = WORK / "models" / f"{workload}.cases.json"
    newest = max((source.stat().st_mtime for source in sources if source.exists()), default=0.0)
    if cases.exists() and cases.stat().st_mtime > newest:
        return
    run_step(f"model-{workload}", [[str(python_of(TOOLS)), str(sources[0]), workload]])


def lock(environments: dict[str, tuple[str, ...]]) -> None:
    """Resolve each environment's direct requirements for this Python and write the locks: names and versions only."""
    uv = find_uv()
    if uv is None:
        raise SetupFailed("--lock needs uv: pip install uv")
    for environment, requires in environments.items():
        source = BUILD / "peers" / f"{environment}.in"
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text("\n".join(requires) + "\n")
        target = REQUIREMENTS / f"{environment}.txt"
        quiet = ["--quiet", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
        run_step(f"lock-{environment}", [[uv, "pip", "compile", *quiet, str(source), "-o", str(target)]])


def environments_of(peers: list[Peer]) -> dict[str, tuple[str, ...]]:
    """Environment name → direct requirements, for the peers that have one, and the tools'."""
    wanted = {environment_name(peer): peer.requires for peer in peers if peer.requires}
    return {**wanted, TOOLS: TOOLS_REQUIRES}


def version_of(peer: Peer) -> str:
    """The peer's own version from its lock, or an empty string."""
    lock_file, _ = requirement_files(environment_name(peer))
    if not lock_file.exists():
        return ""
    versions = dict(line.split("==", 1) for line in lock_file.read_text().split() if "==" in line)
    return versions.get(peer.package or peer.name, "")
