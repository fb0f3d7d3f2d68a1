"""The packing process: ``python -m setpoint.formats.child`` reads one ``Job`` from stdin and answers on stdout."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import msgspec

from setpoint.core import SetpointError
from setpoint.formats import pack
from setpoint.formats.base import PackOptions
from setpoint.formats.choice import remembering
from setpoint.formats.confined import MEMORY_EXIT_CODE
from setpoint.formats.isolated import Done, Failed, Job, freeze


def main() -> None:
    """Pack one job. Whatever libraries print goes to stderr; stdout carries the answer alone."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # also for a user's module that imports it before we do
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # the descriptor, not only sys.stdout: native libraries print too
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    sys.path.extend(path for path in job.import_paths if path not in sys.path)
    warnings = _Warnings()
    logging.getLogger("setpoint.formats").addHandler(warnings)
    try:
        outcome = _perform(job)
    except MemoryError:
        os._exit(MEMORY_EXIT_CODE)  # nothing that needs memory is safe now
    with answer:
        answer.write(msgspec.json.encode(msgspec.structs.replace(outcome, warnings=tuple(warnings.said))))


class _Warnings(logging.Handler):
    """Keeps what is said of plugins, for the caller to say: our own stderr is shown only where packing fails."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a sentence."""
        self.said.append(record.getMessage())


def _perform(job: Job) -> Done | Failed:
    options = PackOptions(job.trust, job.entry, Path(job.sample) if job.sample else None, job.engine)
    try:
        with remembering(Path(job.memory) if job.memory else None):
            packed = pack(Path(job.source), options, Path(job.workdir))
    except SetpointError as error:
        return freeze(error)
    return Done(packed.manifest, {path: str(place) for path, place in packed.files.items()}, packed.suggested_name)


if __name__ == "__main__":
    main()
