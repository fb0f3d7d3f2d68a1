"""Making variants, each maker in a process of its own: what it imports, leaks or crashes on stays out of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from setpoint.core import InternalError
from setpoint.optimize.makers import Made, MakerJob


class Order(msgspec.Struct, frozen=True):
    """To the maker's process: who makes what. ``import_paths`` are ours, appended to its own."""

    maker: str
    job: MakerJob
    import_paths: tuple[str, ...]


class Product(msgspec.Struct, frozen=True, tag=True):
    """From the maker's process: what it made."""

    made: tuple[Made, ...]


class Refused(msgspec.Struct, frozen=True, tag=True):
    """From the maker's process: why it made nothing."""

    reason: str


def encode_path(value: object) -> object:
    """For msgspec, which does not know paths."""
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"{type(value)} is not sent between processes")


def decode_path(kind: type, value: object) -> object:
    """The other way."""
    if kind is Path:
        return Path(str(value))
    raise NotImplementedError(f"{kind} is not sent between processes")


def make(maker: str, job: MakerJob) -> Product | Refused:
    """Let one maker work. Never raises for what the maker does: failing is an answer."""
    job.workdir.mkdir(parents=True, exist_ok=True)
    paths = tuple(dict.fromkeys(os.path.abspath(entry) for entry in sys.path))
    try:
        child = subprocess.run(
            # -P: a file in the current folder called onnx.py must not stand in for the library of that name.
            [sys.executable, "-P", "-m", "setpoint.optimize.child"],
            input=msgspec.json.encode(Order(maker, job, paths), enc_hook=encode_path),
            capture_output=True,
            check=False,
            timeout=job.seconds,
            env={**os.environ, "OMP_NUM_THREADS": str(job.threads), "OPENBLAS_NUM_THREADS": str(job.threads)},
        )
    except subprocess.TimeoutExpired:
        return Refused(f"it was not done within {job.seconds:.0f} s and was ended")
    if child.returncode < 0:
        return Refused(
            f"it was ended by signal {-child.returncode}" + (" (out of memory?)" if child.returncode == -9 else "")
        )
    if child.returncode:
        raise InternalError(f"the maker's process failed: {child.stderr.decode(errors='replace').strip()[-600:]}")
    return msgspec.json.decode(child.stdout, type=Product | Refused, dec_hook=decode_path)
