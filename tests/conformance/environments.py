"""Virtual environments for clients that cannot share ours: several of them register the same protobuf messages."""

import subprocess
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).resolve().parent / "programs"


def python_of(name: str) -> Path:
    """The interpreter of ``build/venvs/conformance-NAME``, filled from ``requirements/conformance-NAME.txt``."""
    folder, lock = HOUSE / "build" / "venvs" / f"conformance-{name}", HOUSE / "requirements" / f"conformance-{name}.txt"
    stamp = folder / ".ready"
    if not stamp.exists() or stamp.read_bytes() != lock.read_bytes():
        subprocess.run([HOUSE / "scripts" / "venv.sh", folder, lock], cwd=HOUSE, check=True)
        stamp.write_bytes(lock.read_bytes())
    return folder / "bin" / "python"


def run_program(python: Path, program: str, *arguments: str) -> str:
    """Run one of ``programs`` to its end; what it printed. Fails with what it said on standard error."""
    done = subprocess.run(
        [python, "-W", "error::DeprecationWarning:__main__", PROGRAMS / program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"{program} {' '.join(arguments)} failed:\n{done.stderr}"
    return done.stdout
