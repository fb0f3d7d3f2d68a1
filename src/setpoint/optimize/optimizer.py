"""From a bundle to its variants, measured and judged: the order in which everything else of this room is called."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from setpoint import __version__
from setpoint.core import (
    COMPOSITION_ENGINE,
    Clock,
    InvalidConfiguration,
    Limits,
    ModelManifest,
    Objective,
    SystemClock,
    Variant,
)
from setpoint.engines import CPU, preference
from setpoint.formats import PackedModel
from setpoint.machine import Machine, engine_fingerprint, fingerprint, library_versions, on_device, read_machine
from setpoint.optimize import front
from setpoint.optimize.answers import Answers, answers_of
from setpoint.optimize.cache import SEARCHES, Cache, digest_of_arrays, digest_of_artifact, key_of
from setpoint.optimize.feed import ACCEPTED_ROWS, MADE_UP_ROWS, Examples, Feed, make_examples, read_examples
from setpoint.optimize.forecast import forecast
from setpoint.optimize.judging import Court, judge_all
from setpoint.optimize.makers import MakerJob, maker_names
from setpoint.optimize.making import Product, Refused, make
from setpoint.optimize.measuring import Rules, layouts_of
from setpoint.optimize.metrics import UserMetric
from setpoint.optimize.profiler import Candidate, Measured, Profiler
from setpoint.optimize.staging import Staging
from setpoint.optimize.study import Entry, Point, Skipped, Study, grid_of
from setpoint.optimize.surroundings import Surroundings, surroundings_of
from setpoint.registry import Bundle, digest_of_file

_LIBRARIES = ("onnx", "onnx-ir", "onnxruntime", "openvino", "optuna", "scikit-learn", "torch")
"""Whose versions change what makers make."""
_MAKER_SHARE = 0.4
"""Of the budget, for all makers together; the rest is for judging and measuring."""
_JUDGING_SHARE = 0.06
"""Of the budget, for the answers of one variant."""
_JUDGED_BY_SHARE = 0.7
"""Of the budget: what was not judged by then is left out, so that the rest can be measured."""
_JUDGED_ROWS_MOST = 4096
_FEW_ROWS = 200
_UNSTEADY = 0.05
"""Standard error of a median, as a share, that is worth a warning."""


class Request(msgspec.Struct, frozen=True):
    """What is asked for.

    Attributes:
        objective: None asks for the highest rate.
        data: ``.npz`` of examples; None uses made-up rows.
        metric: of ``metrics.METRICS``; empty chooses.
        user_metric: in its place.
        budget_s: no new step begins after it.
        length: of free inner axes of made-up rows.
        makers: names of those to use; empty uses all.
        accept_made_up: where there is no data, take agreement on made-up rows for accuracy.
        training: use makers that train, too; they are given more rows to learn from, so fewer are left to judge with.
        cache: folder that remembers what was made and measured; None remembers nothing.
        device: to judge and measure on, one alone: what was measured on it holds for it.
    """

    objective: Objective | None = None
    data: Path | None = None
    metric: str = ""
    user_metric: UserMetric | None = None
    budget_s: float = 600.0
    length: int | None = None
    makers: tuple[str, ...] = ()
    accept_made_up: bool = False
    training: bool = False
    cache: Path | None = None
    device: str = CPU

    def __post_init__(self) -> None:
        if len(preference(self.device)) > 1:
            raise InvalidConfiguration(f"device {self.device!r}: variants are measured on one device; give one")


class Optimizer:
    """One run over one bundle.

    Args:
        bundle: what is studied; its first variant is the original.
        folder: with the bundle's files.
        workdir: an empty folder for what is made; lives until the registry has copied it.
        tell: told in a few words what goes on.
    """

    def __init__(
        self,
        bundle: Bundle,
        folder: Path,
        workdir: Path,
        request: Request,
        *,
        tell: Callable[[str], None] = lambda text: None,
        clock: Clock | None = None,
        machine: Machine | None = None,
        rules: Rules | None = None,
    ) -> None:
        signature = bundle.manifest.signature
        self._original = bundle.manifest.variants[0]
        if self._original.engine == COMPOSITION_ENGINE:
            raise InvalidConfiguration(f"{bundle.reference} is a composition; optimise the models of its steps alone")
        if signature is None or self._original.engine == "python":
            raise InvalidConfiguration(
                f"{bundle.reference} is a Python class; variants are made of models that are graphs, such as ONNX"
                " files and scikit-learn models"
            )
        self._bundle = bundle
        self._signature = signature
        self._folder = folder
        self._workdir = workdir
        self._request = request
        self._tell = tell
        self._clock = clock or SystemClock()
        self._machine = machine or read_machine()
        self._rules = rules or rules_for(request.objective)
        self._limits = Limits()
        self._cache = Cache(request.cache)
        self._staging: Staging
        self._started_ns = self._clock.now_ns()
        self._warnings: list[str] = []
        self._surroundings = Surroundings()
        self._stopped = False

    def stop(self) -> None:
        """Begin nothing new, and conclude from what is there; as if the budget were spent. For a signal's handler."""
        self._stopped = True

    def run(self) -> tuple[Study, PackedModel]:
        """Make, judge, measure, choose.

        Returns:
            what was found, and the bundle's next version, for the registry.

        Raises:
            InvalidConfiguration: the data or the metric do not fit the model.
            ModelError: the original itself fails.
        """
        examples = self._examples()
        self._surroundings = surroundings_of(self._signature, examples.arrays)
        calibration, judged = (
            examples.split(training=self._request.training) if examples.rows > 1 else (examples, examples)
        )
        self._staging = Staging(self._bundle, self._folder, self._workdir)
        entries, skipped = self._make(calibration)
        manifest = msgspec.structs.replace(
            self._bundle.manifest, variants=tuple(entry.variant for entry in entries), profiles=()
        )
        entries, metric = asyncio.run(self._judge(manifest, entries, judged))
        manifest = msgspec.structs.replace(manifest, variants=tuple(entry.variant for entry in entries))
        entries = asyncio.run(self._measure(manifest, entries, Feed(examples.arrays, self._signature, self._most_rows)))
        study = self._conclude(entries, skipped, metric, judged)
        return study, self._staging.packed(study)

    # --- steps ----------------------------------------------------------------------------------------------------

    @property
    def _most_rows(self) -> int:
        endpoint = self._bundle.manifest.tensor_endpoint
        return endpoint.batch_rows if endpoint else 1

    def _examples(self) -> Examples:
        if self._request.data is None:
            self._warn("no data was given: variants were compared on made-up rows, and no accuracy is promised")
            if self._request.accept_made_up:
                self._warn("agreement on made-up rows was accepted in place of accuracy")
            rows = ACCEPTED_ROWS if self._request.accept_made_up else MADE_UP_ROWS
            artifact = self._folder / self._original.artifact
            return make_examples(artifact, self._signature, self._request.length, rows=rows)
        examples = read_examples(self._request.data, self._signature)
        if not self._signature.batched and examples.rows > 1:
            raise InvalidConfiguration(
                f"{self._request.data}: this model takes one row at a time; judging it by data is not possible yet"
            )
        if examples.rows > _JUDGED_ROWS_MOST:
            which = np.random.default_rng(0).permutation(examples.rows)[:_JUDGED_ROWS_MOST]
            examples = examples.take(np.sort(which))
        if examples.labels is None:
            self._warn("the data has no labels: accuracy is agreement with the original")
        if examples.rows < _FEW_ROWS:
            self._warn(f"{examples.rows} rows say little about a loss of a per cent; give a thousand")
        return examples

    def _make(self, calibration: Examples) -> tuple[list[Entry], list[Skipped]]:
        entries = [self._staging.original()]
        skipped = []
        rows = self._workdir / "calibration.npz"
        columns: dict[str, Any] = {
            spec.name: array for spec, array in zip(self._signature.inputs, calibration.arrays, strict=True)
        }
        np.savez(rows, **columns)
        names = self._request.makers or tuple(maker_names(training=self._request.training))
        for name in names:
            # One maker may take half of what is left, so that a slow one leaves time for those after it.
            left_s = (_MAKER_SHARE * self._budget_s - self._spent_s()) / (1 if name == names[-1] else 2)
            if left_s <= 1.0:
                skipped.append(Skipped(name, "the budget for making variants was spent"))
                continue
            self._tell(f"making {name}")
            job = MakerJob(
                model=self._staging.model,
                workdir=self._workdir / "made" / name,
                calibration=rows,
                real=calibration.real,
                batched=self._signature.batched,
                architecture=self._machine.cpu.architecture,
                features=self._machine.cpu.features,
                threads=self._machine.cores,
                seconds=left_s,
            )
            outcome = self._made(job, name, calibration)
            if isinstance(outcome, Refused):
                skipped.append(Skipped(name, outcome.reason))
                continue
            entries += [self._staging.adopt(made) for made in outcome.made]
        return entries, skipped

    def _made(self, job: MakerJob, name: str, calibration: Examples) -> Product | Refused:
        """What a maker makes, or made before of the same."""
        key = key_of(
            ("made", name, __version__, library_versions(_LIBRARIES), job.architecture, job.features, job.real),
            (self._staging.own_digests(), digest_of_arrays(calibration.arrays)),
        )
        found = self._cache.product(key, job.workdir, job.model)
        if found is not None:
            return found
        notes = self._request.cache / SEARCHES if self._request.cache is not None else None
        outcome = make(name, msgspec.structs.replace(job, notes=notes, key=key), lambda: self._stopped)
        if isinstance(outcome, Product):
            self._cache.keep_product(key, outcome, job.model)
        return outcome

    async def _judge(
        self, manifest: ModelManifest, entries: list[Entry], examples: Examples
    ) -> tuple[list[Entry], str]:
        """Compare answers; what loses too much, fails or is seen to be slow is dropped. The fastest come first."""
        threads = self._machine.cores

        async def ask(entry: Entry, asked: Examples, limit_s: float) -> Answers:
            self._tell(f"judging {entry.variant.name}")
            name = entry.variant.name
            return await answers_of(
                *(manifest, self._staging.folder, name, threads, asked, self._limits, limit_s), self._request.device
            )

        court = Court(
            ask,
            self._request.objective,
            self._request.metric,
            self._request.user_metric,
            self._request.accept_made_up,
            late=lambda: self._spent_s() > _JUDGED_BY_SHARE * self._budget_s,
            warn=self._warn,
        )
        return await judge_all(court, entries, examples, _JUDGING_SHARE * self._budget_s)

    async def _measure(self, manifest: ModelManifest, entries: list[Entry], feed: Feed) -> list[Entry]:
        """Measure what was not dropped, in every layout; drop what does not pay."""
        profiler = Profiler(
            manifest,
            self._staging.folder,
            feed,
            hardware=self._hardware,
            clock=self._clock,
            limits=self._limits,
            rules=self._rules,
            tell=self._tell,
            stopped=lambda: self._stopped,
            device=self._request.device,
        )
        floor = front.floor_of(self._request.objective)
        standing = [entry for entry in entries if entry.kept or front.worth_measuring(entry, floor)]
        found: dict[str, list[Measured]] = {entry.variant.name: [] for entry in standing}
        layouts = list(layouts_of(self._machine.cores))
        for index, (workers, threads) in enumerate(layouts):
            candidates = [Candidate(entry.variant.name, threads, workers) for entry in standing]
            candidates = [each for each in candidates if front.worth_another_layout(found[each.variant])]
            left_s = (self._budget_s - self._spent_s()) / (len(layouts) - index)
            key = self._layout_key(candidates, entries, feed)
            results = self._cache.read(key, list[Measured])
            if results is None:
                results = await profiler.measure(candidates[0], candidates[1:], self._machine, left_s)
                if all(measured.profile is not None and measured.spread <= _UNSTEADY for measured in results):
                    self._cache.write(key, results)
            for measured in results:
                found[measured.candidate.variant].append(measured)
        original = found[entries[0].variant.name]
        result = []
        for entry in entries:
            measured_all = tuple(found.get(entry.variant.name, ()))
            dropped = entry.dropped
            if entry.kept and entry.verdict is not None:
                dropped = front.why_drop_for_speed(measured_all, original[: len(measured_all)])
            result.append(msgspec.structs.replace(entry, measured=measured_all, dropped=dropped))
        return front.without_needless(result)

    def _point(self, entry: Entry, measured: Measured) -> Point:
        """What a variant holds in a layout: simulated where there is a bound to hold, else its best batch."""
        objective = self._request.objective
        point = front.point_of(entry, measured, objective)
        if objective is None or objective.latency is None or measured.profile is None:
            return point
        self._tell(f"simulating {point.variant}, {point.layout}")
        return forecast(point, measured.profile, objective, self._most_rows, self._surroundings)

    def _layout_key(self, candidates: list[Candidate], entries: list[Entry], feed: Feed) -> str:
        """Of all that a measurement depends on, but for the machine's mood: so only steady ones are kept."""
        variants = {entry.variant.name: entry.variant for entry in entries}
        parts = sorted(
            (each.layout, *self._variant_key(variants[each.variant]), self._hardware(variants[each.variant].engine))
            for each in candidates
        )
        return key_of("measured", __version__, parts, digest_of_arrays(feed.batch(feed.rows)), self._rules)

    def _hardware(self, engine: str) -> str:
        return on_device(engine_fingerprint(engine), self._request.device)

    def _variant_key(self, variant: Variant) -> tuple[str, str, str, str]:
        digest = digest_of_artifact(self._staging.folder / variant.artifact)
        return variant.name, variant.engine, variant.entry, digest

    def _conclude(self, entries: list[Entry], skipped: list[Skipped], metric: str, examples: Examples) -> Study:
        objective = self._request.objective
        points = tuple(
            self._point(entry, measured)
            for entry in entries
            if entry.kept
            for measured in entry.measured
            if measured.profile is not None
        )
        if self._stopped:
            self._warn("it was stopped before it was done: what was not made or measured by then is missing")
        unsteady = max((measured.spread for entry in entries for measured in entry.measured), default=0.0)
        if unsteady > _UNSTEADY:
            self._warn(
                f"the machine was busy or the budget short: the least certain median is off by {unsteady:.0%};"
                " measure again when it is idle, or with a larger --budget"
            )
        return Study(
            model=self._bundle.reference,
            objective=str(objective) if objective else "",
            floor=front.floor_of(objective),
            metric=metric,
            examples=examples.origin,
            promised=examples.real,
            hardware=on_device(fingerprint(), self._request.device),
            entries=tuple(entries),
            skipped=tuple(skipped),
            points=points,
            front=front.front_of(points),
            chosen=front.choose(points, objective),
            warnings=tuple(self._warnings),
            seconds=self._spent_s(),
            accepted=self._request.accept_made_up and not examples.real,
            data_digest=digest_of_file(self._request.data) if self._request.data else "",
            stopped=self._stopped,
            grid=grid_of(entries, len(list(layouts_of(self._machine.cores))), self._most_rows),
        )

    @property
    def _budget_s(self) -> float:
        return 0.0 if self._stopped else self._request.budget_s

    def _spent_s(self) -> float:
        return (self._clock.now_ns() - self._started_ns) / 1e9

    def _warn(self, text: str) -> None:
        self._warnings.append(text)


def rules_for(objective: Objective | None) -> Rules:
    """Batches that take longer than the objective's bound are of no use, so they are not measured."""
    goal = objective.latency if objective else None
    return Rules(slow_ms=1.2 * goal.bound_ns / 1e6) if goal else Rules()
