"""What an optimisation found, as records: everything the answer, the tables and the evidence file are made from."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from setpoint.core import Variant
from setpoint.optimize.measuring import SIZES
from setpoint.optimize.metrics import Verdict
from setpoint.optimize.profiler import Measured


class Entry(msgspec.Struct, frozen=True):
    """One variant that exists, kept or not.

    Attributes:
        variant: with its accuracy as judged.
        note: how it was made.
        size_bytes: of its artifact.
        verdict: its answers against the original's; None for the original.
        measured: one for each layout in which it was measured.
        dropped: why it is not kept; empty where it is.
        same: its maker says that it does the original's own arithmetic.
        promised: whether its accuracy stands: judged on real rows, or on made-up ones and either the same arithmetic
            with the same answers or accepted by the user.
    """

    variant: Variant
    note: str = ""
    size_bytes: int = 0
    verdict: Verdict | None = None
    measured: tuple[Measured, ...] = ()
    dropped: str = ""
    same: bool = False
    promised: bool = True

    @property
    def stored(self) -> Variant:
        """As the bundle states it: in the worst case nothing is left where nothing is known of its accuracy, so that
        it never answers under an objective that limits the loss."""
        return self.variant if self.promised else msgspec.structs.replace(self.variant, accuracy=0.0)

    @property
    def kept(self) -> bool:
        """Whether it joins the bundle."""
        return not self.dropped


class Skipped(msgspec.Struct, frozen=True):
    """A maker that made nothing, and why."""

    maker: str
    reason: str


class Point(msgspec.Struct, frozen=True):
    """One way to run the model: a variant in a layout, with the batch that serves the objective best.

    Attributes:
        variant: its name.
        workers, threads: the layout.
        rows: of the batch to aim for; 0 where no batch keeps the bound.
        rate_per_s: rows per second that all workers hold together within the bound; 0 where none.
        latency_ms: what a request takes then at the objective's percentile: waiting and running.
        accuracy: what is left of the original's, in the worst case that the interval allows.
    """

    variant: str
    workers: int
    threads: int
    rows: int
    rate_per_s: float
    latency_ms: float
    accuracy: float

    @property
    def layout(self) -> str:
        """``2×1``: workers × threads."""
        return f"{self.workers}×{self.threads}"


class Grid(msgspec.Struct, frozen=True):
    """How much of all that could be measured was.

    Attributes:
        points: variants × layouts × batch sizes.
        measured: of them.
        predicted: by the affine law between measured ones.
    """

    points: int
    measured: int
    predicted: int


def grid_of(entries: Sequence[Entry], layouts: int, most_rows: int) -> Grid:
    """Of the variants that were to be measured, in every layout, with every batch size up to the largest.

    Args:
        entries: with what was measured of them.
        layouts: how many there are.
        most_rows: of a batch.
    """
    points = [
        point
        for entry in entries
        for measured in entry.measured
        if measured.profile is not None
        for point in measured.profile.latency
    ]
    standing = sum(bool(entry.measured) for entry in entries)
    measured_points = sum(point.samples > 0 for point in points)
    everything = standing * layouts * sum(size <= most_rows for size in SIZES)
    return Grid(everything, measured_points, len(points) - measured_points)


class Study(msgspec.Struct, frozen=True):
    """The whole of it.

    Attributes:
        model: reference of the bundle that was studied.
        objective: as stated.
        floor: least accuracy that may be left, 0 to 1.
        metric: that judged.
        examples: what was judged on, in words.
        promised: False where those were made up: then nothing is promised about accuracy.
        accepted: there were no data, and the user takes agreement on made-up rows for accuracy.
        data_digest: of the file with the data; empty where there was none.
        stopped: somebody ended it before it was done.
        grid: how much was measured; None where that was not noted.
        hardware: fingerprint.
        entries: the original first.
        skipped: makers that made nothing.
        points: every kept variant in every layout it was measured in.
        front: those of them that no other beats in both accuracy and rate, the most accurate first.
        chosen: the operating point: its fastest variant; None where the objective cannot be held.
        warnings: what a reader must know.
        seconds: it took.
    """

    model: str
    objective: str
    floor: float
    metric: str
    examples: str
    promised: bool
    hardware: str
    entries: tuple[Entry, ...]
    skipped: tuple[Skipped, ...]
    points: tuple[Point, ...]
    front: tuple[Point, ...]
    chosen: Point | None
    warnings: tuple[str, ...]
    seconds: float
    accepted: bool = False
    data_digest: str = ""
    stopped: bool = False
    grid: Grid | None = None
