"""The packing process: ``python -m setpoint.formats.child`` reads one ``Job`` from stdin and answers on stdout."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from setpoint.core import SetpointError
from setpoint.formats import pack
from setpoint.formats.base import PackOptions
from setpoint.formats.isolated import Done, Failed, Job, freeze


def main() -> None:
    """Pack one job. Whatever libraries print goes to stderr; stdout carries the answer alone."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # also for a user's module that imports it before we do
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # the descriptor, not only sys.stdout: native libraries print too
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    sys.path.extend(path for path in job.import_paths if path not in sys.path)
    with answer:
        answer.write(msgspec.json.encode(_perform(job)))


def _perform(job: Job) -> Done | Failed:
    options = PackOptions(job.trust, job.entry, Path(job.sample) if job.sample else None)
    try:
        packed = pack(Path(job.source), options, Path(job.workdir))
    except SetpointError as error:
        return freeze(error)
    return Done(packed.manifest, {path: str(place) for path, place in packed.files.items()}, packed.suggested_name)


if __name__ == "__main__":
    main()
