"""Pruned further than calibration rows alone allow, and then trained to answer as the original does.

No labels are needed: the original is the teacher, asked about the rows and variations of them. What is trained is the
pruned graph itself, so the module that it was exported from is not needed again. PyTorch trains.
"""

from __future__ import annotations

import importlib.util
import time

import numpy as np
import onnx

from setpoint.core import MissingExtra
from setpoint.optimize.makers.base import Made, MakerJob
from setpoint.optimize.makers.graphs import read_whole
from setpoint.optimize.makers.layers import replace_constants
from setpoint.optimize.makers.pruned import Pruning
from setpoint.optimize.makers.teaching import Floats, taught_rows, teacher, varied

KEPT = (0.99, 0.95, 0.9)
"""Shares of what each layer computes that are kept before training makes up for the rest, a variant each."""
_EPOCHS = 30
_ROWS_AT_ONCE = 64
_RATE = 1e-3
_ASIDE = 0.1
"""Of the rows, to see which epoch was the best."""
_TIME_SHARE = 0.7
"""Of what the maker may take, for training."""
_UNIT = 1e-3
_SEED = 5


class TunedMaker:
    """``pruned-tuned-99``, ``-95`` and ``-90``: per cent of each layer's output that was kept to begin with."""

    name = "pruned-tuned"
    trains = True

    def make(self, job: MakerJob) -> list[Made]:
        """Prune, then train on the calibration rows and variations of them.

        Raises:
            InvalidConfiguration: no channel can go, another kind of input or output, too few real rows, or an operator
                that is not trained here.
            MissingExtra: PyTorch is not installed.
        """
        if importlib.util.find_spec("torch") is None:
            raise MissingExtra("torch", "torch", "training a pruned model")
        start_s = time.monotonic()
        with np.load(job.calibration, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        rows = taught_rows(job, read_whole(job.model), arrays)
        prunings = Pruning(job).by_share(KEPT)
        name, asked = next(iter(arrays)), varied(rows)
        answered = teacher(job, name, asked)
        left_s = _TIME_SHARE * (job.seconds - (time.monotonic() - start_s))
        made = []
        for share, model, kept in prunings:
            error, epochs = train(model, name, asked, answered, left_s / len(prunings), job.threads)
            variant = f"pruned-tuned-{100 * share:g}"
            artifact = job.workdir / f"{variant}.onnx"
            onnx.save_model(model, artifact)
            note = f"channels kept: {kept}; {epochs} epochs on {len(asked)} answers of the original, off by {error:.1%}"
            made.append(Made(variant, "fp32", artifact, note=note))
        return made


def train(
    model: onnx.ModelProto, name: str, asked: Floats, answered: Floats, limit_s: float, threads: int
) -> tuple[float, int]:
    """Train a graph's constants in place, as long as the rows that were set aside say that it helps.

    Args:
        model: the graph; its constants are replaced.
        name: of its one input.
        asked, answered: rows, and what it should answer.
        limit_s: no new epoch begins after it.
        threads: that PyTorch may use.

    Returns:
        how far answers to rows set aside are off, as a share of their length; and epochs until the best one.
    """
    import torch

    from setpoint.optimize.makers.torch_graph import TorchGraph

    torch.set_num_threads(threads)
    torch.manual_seed(_SEED)
    graph = TorchGraph(model)
    order = torch.randperm(len(asked))
    aside = max(1, round(_ASIDE * len(asked)))
    rows, wanted = torch.from_numpy(asked)[order], torch.from_numpy(answered)[order]
    shares = bool((answered >= -_UNIT).all() and np.allclose(answered.sum(axis=1), 1.0, atol=_UNIT))

    def loss_of(start: int, stop: int) -> torch.Tensor:
        found = graph.run({name: rows[start:stop]})
        if shares:  # of probability: what is told apart counts, not by how much the largest one wins
            return -(wanted[start:stop] * torch.log(found.clamp_min(1e-7))).sum(dim=1).mean()
        return torch.nn.functional.mse_loss(found, wanted[start:stop]) / wanted.var().clamp_min(1e-9)

    def error_aside() -> float:
        with torch.no_grad():
            found = graph.run({name: rows[:aside]})
        return float(torch.linalg.norm(found - wanted[:aside]) / torch.linalg.norm(wanted[:aside]).clamp_min(1e-9))

    optimizer = torch.optim.Adam(list(graph.trained.values()), lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _EPOCHS)
    best, constants, best_epoch = error_aside(), graph.constants(), 0
    end_s = time.monotonic() + limit_s
    for epoch in range(1, _EPOCHS + 1):
        if time.monotonic() > end_s:
            break
        for start in range(aside, len(rows) - _ROWS_AT_ONCE + 1, _ROWS_AT_ONCE):
            optimizer.zero_grad()
            loss_of(start, start + _ROWS_AT_ONCE).backward()
            optimizer.step()
        schedule.step()
        error = error_aside()
        if error < best:
            best, constants, best_epoch = error, graph.constants(), epoch
    replace_constants(model, constants)
    return best, best_epoch
