"""Making variants, each maker in a process of its own: what it imports, leaks or crashes on stays out of ours."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from setpoint.core import InternalError
from setpoint.optimize.makers import Made, MakerJob

_LOOK_S = 0.25
"""How often is looked whether a maker is still wanted."""


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


def make(maker: str, job: MakerJob, stopped: Callable[[], bool] = lambda: False) -> Product | Refused:
    """Let one maker work. Never raises for what the maker does: failing is an answer.

    Args:
        maker: its name.
        job: what it is given; it is ended when its time is over.
        stopped: asked again and again while it works; it is ended when this says so.
    """
    job.workdir.mkdir(parents=True, exist_ok=True)
    paths = tuple(dict.fromkeys(os.path.abspath(entry) for entry in sys.path))
    order = msgspec.json.encode(Order(maker, job, paths), enc_hook=encode_path)
    end_s = time.monotonic() + job.seconds
    with subprocess.Popen(
        # -P: a file in the current folder called onnx.py must not stand in for the library of that name.
        [sys.executable, "-P", "-m", "setpoint.optimize.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": str(job.threads), "OPENBLAS_NUM_THREADS": str(job.threads)},
    ) as child:
        try:
            output, errors = _communicate(child, order, end_s, stopped)
        except subprocess.TimeoutExpired:
            child.kill()
            return Refused(
                "it was stopped" if stopped() else f"it was not done within {job.seconds:.0f} s and was ended"
            )
        except BaseException:
            child.kill()
            raise
    if child.returncode < 0:
        return Refused(
            f"it was ended by signal {-child.returncode}" + (" (out of memory?)" if child.returncode == -9 else "")
        )
    if child.returncode:
        raise InternalError(f"the maker's process failed: {errors.decode(errors='replace').strip()[-600:]}")
    return msgspec.json.decode(output, type=Product | Refused, dec_hook=decode_path)


def _communicate(
    child: subprocess.Popen[bytes], order: bytes, end_s: float, stopped: Callable[[], bool]
) -> tuple[bytes, bytes]:
    """What the process says, and what it wrote beside it.

    Raises:
        subprocess.TimeoutExpired: its time is over, or it is not wanted any more.
    """
    given: bytes | None = order
    while True:
        left_s = end_s - time.monotonic()
        try:
            return child.communicate(given, timeout=max(0.0, min(left_s, _LOOK_S)))
        except subprocess.TimeoutExpired:
            if left_s <= _LOOK_S or stopped():
                raise
            given = None
