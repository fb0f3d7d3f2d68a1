"""Variants from anywhere, judged and measured as `setpoint optimize` does it: same rows, same worker process, in turn.

What another tool made is adopted as a variant of the bundle that was optimised, so its answers are compared with the
same original's on the same rows, and it runs interleaved with the original in the process that serves.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from shared import BUILD, say

from setpoint.core import Limits, Objective, SetpointError, SystemClock
from setpoint.machine import engine_fingerprint, read_machine
from setpoint.optimize import front
from setpoint.optimize.answers import Answers, answers_of
from setpoint.optimize.feed import Examples, Feed, read_examples
from setpoint.optimize.forecast import forecast
from setpoint.optimize.makers import Made
from setpoint.optimize.measuring import layouts_of
from setpoint.optimize.metrics import Judge, UserMetric, Verdict
from setpoint.optimize.optimizer import rules_for
from setpoint.optimize.profiler import Candidate, Measured, Profiler
from setpoint.optimize.staging import Staging, files_of, link
from setpoint.optimize.study import Entry, Point
from setpoint.optimize.surroundings import surroundings_of
from setpoint.registry import VARIANT_FOLDER, Registry


class Found(msgspec.Struct, frozen=True):
    """One variant: its answers' verdict, what was measured by layout, and the best that it holds."""

    name: str
    note: str
    verdict: Verdict | None
    measured: tuple[Measured, ...]
    point: Point | None
    problem: str = ""


class Harness:
    """One optimised bundle and rows for it.

    Args:
        reference: of the bundle; its variant `fp32` is the original.
        data: `.npz` with the rows; labels in it, if any, are the right answers.
        most_rows: to judge with.
    """

    def __init__(self, reference: str, data: Path, most_rows: int = 1 << 30) -> None:
        self._most_rows = most_rows
        self.registry = Registry(BUILD / "home")
        self.bundle = self.registry.resolve(reference)
        self.manifest = self.bundle.manifest
        assert self.manifest.signature is not None
        self.signature = self.manifest.signature
        self.examples = read_examples(data, self.signature)
        self.machine = read_machine()
        original = next(each for each in self.manifest.variants if each.name == "fp32")
        others = tuple(each for each in self.manifest.variants if each.name != "fp32")
        self.bundle = msgspec.structs.replace(
            self.bundle, manifest=msgspec.structs.replace(self.manifest, variants=(original, *others), profiles=())
        )
        self.manifest = self.bundle.manifest

    def split(self) -> tuple[Examples, Examples]:
        """Rows to calibrate with and rows to judge with: the very ones of `setpoint optimize`."""
        calibration, judged = self.examples.split()
        return calibration, judged.take(np.arange(min(judged.rows, self._most_rows)))

    def write_calibration(self, place: Path) -> None:
        """Rows to calibrate with, by input's name."""
        self._write(place, self.split()[0])

    def write_judged(self, place: Path) -> None:
        """Rows to judge with, and their labels."""
        self._write(place, self.split()[1])

    def _write(self, place: Path, examples: Examples) -> None:
        columns: dict[str, Any] = {
            spec.name: array for spec, array in zip(self.signature.inputs, examples.arrays, strict=True)
        }
        if examples.labels is not None:
            columns["label"] = examples.labels
        np.savez(place, **columns)

    def judge(self, variants: Sequence[str], metric: str) -> dict[str, Any]:
        """Verdicts of variants of the bundle against its original, as plain values, by name."""
        folder = self.registry.folder(self.bundle)
        _, judged = self.split()

        async def ask(name: str) -> Answers:
            return await answers_of(self.manifest, folder, name, self.machine.cores, judged, Limits())

        async def run() -> dict[str, Any]:
            judge = Judge(metric, (await ask("fp32")).outputs, judged.labels)
            return {
                name: msgspec.to_builtins(judge.judge((await ask(name)).outputs)) for name in variants if name != "fp32"
            }

        return asyncio.run(run())

    def compare(
        self,
        variants: Sequence[str],
        made: Sequence[Made],
        metric: str | UserMetric,
        objective: Objective,
        budget_s: float,
    ) -> list[Found]:
        """The original, variants of the bundle and files of others, all judged, measured and forecast alike.

        Args:
            variants: of the bundle, beside the original.
            made: by others.
            metric: a name or a function.
            objective: that the forecast is for.
            budget_s: for measuring, over all layouts.
        """
        with tempfile.TemporaryDirectory(prefix="setpoint-compare-") as workdir:
            staging = Staging(self.bundle, self.registry.folder(self.bundle), Path(workdir))
            for variant in self.manifest.variants:
                if variant.artifact.startswith(f"{VARIANT_FOLDER}/"):
                    self._place(variant.artifact, staging.folder)
            entries = [staging.original()]
            entries += [Entry(each, "ours") for each in self.manifest.variants if each.name in variants]
            entries += [staging.adopt(each) for each in made]
            return asyncio.run(self._compare(staging.folder, entries, metric, objective, budget_s))

    def _place(self, artifact: str, folder: Path) -> None:
        (folder / artifact).parent.mkdir(parents=True, exist_ok=True)
        for file in files_of(self.registry.folder(self.bundle) / artifact):
            link(file, (folder / artifact).parent / file.name)

    async def _compare(
        self, folder: Path, entries: list[Entry], metric: str | UserMetric, objective: Objective, budget_s: float
    ) -> list[Found]:
        manifest = msgspec.structs.replace(self.manifest, variants=tuple(entry.variant for entry in entries))
        _, judged = self.split()
        verdicts: dict[str, Verdict | None] = {}
        problems: dict[str, str] = {}
        judge: Judge | None = None
        for entry in entries:
            name = entry.variant.name
            say(f"judging {name}")
            try:
                answers = await answers_of(manifest, folder, name, self.machine.cores, judged, Limits())
            except SetpointError as error:
                problems[name] = f"does not run: {error.message[:150]}"
                continue
            if judge is None:
                named, user = (metric, None) if isinstance(metric, str) else ("", metric)
                judge = Judge(named, answers.outputs, judged.labels, user)
                verdicts[name] = None
            else:
                verdicts[name] = judge.judge(answers.outputs)
        endpoint = manifest.tensor_endpoint
        assert endpoint is not None
        feed = Feed(self.examples.arrays, self.signature, endpoint.batch_rows)
        profiler = Profiler(
            *(manifest, folder, feed),
            hardware=engine_fingerprint,
            clock=SystemClock(),
            rules=rules_for(objective),
            tell=say,
        )
        found: dict[str, list[Measured]] = {name: [] for name in verdicts}
        layouts = list(layouts_of(self.machine.cores))
        for workers, threads in layouts:
            first, *others = [Candidate(name, threads, workers) for name in verdicts]
            for measured in await profiler.measure(first, others, self.machine, budget_s / len(layouts)):
                found[measured.candidate.variant].append(measured)
        surroundings = surroundings_of(self.signature, self.examples.arrays)
        results = []
        for entry in entries:
            name = entry.variant.name
            verdict = verdicts.get(name)
            variant = msgspec.structs.replace(entry.variant, accuracy=verdict.loss.left if verdict else 1.0)
            judged_entry = msgspec.structs.replace(entry, variant=variant, verdict=verdict)
            points = [
                forecast(
                    *(front.point_of(judged_entry, each, objective), each.profile, objective, endpoint.batch_rows),
                    surroundings,
                )
                for each in found.get(name, ())
                if each.profile is not None
            ]
            best = max(points, key=lambda point: point.rate_per_s, default=None)
            results.append(Found(name, entry.note, verdict, tuple(found.get(name, ())), best, problems.get(name, "")))
        return results
