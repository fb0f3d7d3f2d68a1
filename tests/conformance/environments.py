"""Virtual environments for clients that cannot share ours: several of them register the same protobuf messages."""

import fcntl
import re
import subprocess
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).resolve().parent / "programs"


def python_of(name: str) -> Path:
    """The interpreter of ``build/venvs/conformance-NAME``, filled from ``requirements/conformance-NAME.txt``."""
    folder, lock = HOUSE / "build" / "venvs" / f"conformance-{name}", HOUSE / "requirements" / f"conformance-{name}.txt"
    stamp = folder / ".ready"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # tests of other files may want the same one, in a process beside this
        if not stamp.exists() or stamp.read_bytes() != lock.read_bytes():
            subprocess.run([HOUSE / "scripts" / "venv.sh", folder, lock], cwd=HOUSE, check=True)
            stamp.write_bytes(lock.read_bytes())
    return folder / "bin" / "python"


def run_program(python: Path, program: str, *arguments: str) -> str:
    """Run one of ``programs`` to its end; what it printed. Fails with what it said on standard error."""
    ours = [f"-Werror::DeprecationWarning:{module}" for module in ("__main__", "triton_parts")]
    done = subprocess.run(
        [python, *ours, PROGRAMS / program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"{program} {' '.join(arguments)} failed:\n{done.stderr}"
    return done.stdout


def check_perf(printed: str) -> None:
    """Judge what perf_analyzer printed: it counted requests, and read the server's statistics of them."""
    counted = {name: int(number) for name, number in re.findall(r"(\w+ count): (\d+)", printed)}
    assert counted["Request count"] >= 20
    assert counted["Inference count"] >= counted["Execution count"] > 0
    (stages,) = re.findall(
        r"compute input (\d+) usec \+ compute infer (\d+) usec \+ compute output (\d+) usec", printed
    )
    assert all(int(stage) < 60_000_000 for stage in stages)
