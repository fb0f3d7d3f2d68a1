"""The interface of a maker: from an ``.onnx`` file to other files that answer nearly the same, faster or smaller.

A maker promises nothing. What it makes is measured and judged like everything else; what does not pay is dropped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec


class MakerJob(msgspec.Struct, frozen=True):
    """What a maker is given.

    Attributes:
        model: the original; weights outside it lie beside it.
        workdir: an empty folder of its own for what it makes.
        calibration: an ``.npz`` with one array for each input, rows first; none of them judges the result.
        real: False where those rows are made up, so that ranges taken from them mean little.
        batched: whether the first axis of the inputs is a batch axis.
        architecture: of the processor, such as ``x86_64``.
        features: of the processor, as ``setpoint.machine`` names them.
        threads: that it may use.
        seconds: it may take; it is ended then.
        notes: a folder for what an interrupted search goes on from; None without.
        key: of everything that what is made depends on.
    """

    model: Path
    workdir: Path
    calibration: Path
    real: bool
    batched: bool
    architecture: str
    features: tuple[str, ...]
    threads: int
    seconds: float
    notes: Path | None = None
    key: str = ""

    @property
    def journal(self) -> Path | None:
        """The file of a search's trials; None where nothing is noted."""
        return self.notes / f"{self.key}.journal" if self.notes is not None else None

    @property
    def saturates(self) -> bool:
        """Whether 8-bit products overflow their 16-bit sums here: x86 without VNNI. Then weights must have 7 bits.

        Source: onnxruntime's "Quantize ONNX models", section on U8S8; seen in its issues 6004 and 5849.
        """
        fit = {"avx512_vnni", "avx_vnni", "amx_int8"}
        return self.architecture in ("x86_64", "AMD64") and not fit & set(self.features)


class Made(msgspec.Struct, frozen=True):
    """One variant that was made.

    Attributes:
        name: unique among all makers, such as ``int8-dynamic``.
        precision: of the weights, such as ``int8``.
        artifact: the file; the original itself where only the engine differs.
        engine: that runs it.
        entry: what the engine is to take from it or do with it; see the engine.
        note: how it was made, in words.
        same: it does the original's own arithmetic, on another engine or in another order: answers differ by rounding
            only. Where there are no real rows to judge by, it may serve if its answers to made-up ones say so too.
    """

    name: str
    precision: str
    artifact: Path
    engine: str = "onnxruntime"
    entry: str = ""
    note: str = ""
    same: bool = False


class Maker(Protocol):
    """Makes variants of one kind. Implementations live one to a file and are found by ``setpoint.makers`` entry points.

    Attributes:
        name: of the kind.
        trains: whether it trains, and so runs on request only.
    """

    name: str
    trains: bool

    def make(self, job: MakerJob) -> list[Made]:
        """Make the variants. Runs in a process of its own; may import what it likes.

        Raises:
            ConfigurationError: it does not suit this model or machine; the message says why, for people.
            MissingExtra: its library is not installed.
        """
        ...
