"""The same arithmetic with fewer operators: constants folded, patterns of transformers fused ahead of loading.

The engine folds and fuses by itself when it loads; what this adds are patterns that it does not look for, attention
above all. Fused operators are onnxruntime's own, so only that engine runs the result.
"""

from __future__ import annotations

import collections

import onnx

from setpoint.core import InvalidConfiguration
from setpoint.optimize.makers.base import Made, MakerJob
from setpoint.optimize.makers.graphs import answers, read_whole, relative_error

_FUSED = ("Attention", "MultiHeadAttention", "EmbedLayerNormalization")
"""What the engine does not fuse by itself; norms and activations it does."""
_SAME = 1e-3
"""Relative difference of answers up to which it is the same arithmetic in another order."""


class FusedMaker:
    """``fused``, where the transformer patterns are found."""

    name = "fused"
    trains = False

    def make(self, job: MakerJob) -> list[Made]:
        """Fuse, and refuse where nothing was found or the answers changed.

        Raises:
            InvalidConfiguration: there is nothing to fuse, or fusing changed the answers.
        """
        from onnxruntime.transformers.optimizer import optimize_model

        whole = job.workdir / "whole.onnx"
        onnx.save_model(read_whole(job.model), whole)
        # 0 heads and 0 hidden: found in the graph. Level 0: the engine's own fusions are made when it loads.
        tool = optimize_model(str(whole), model_type="bert", num_heads=0, hidden_size=0, opt_level=0)
        counts = collections.Counter(node.op_type for node in tool.model.graph.node)
        found = {kind: counts[kind] for kind in _FUSED if counts[kind]}
        if not found:
            raise InvalidConfiguration("no pattern of a transformer was found to fuse")
        artifact = job.workdir / "fused.onnx"
        tool.save_model_to_file(str(artifact))
        whole.unlink()
        error = relative_error(answers(job, job.model), answers(job, artifact))
        if error > _SAME:
            raise InvalidConfiguration(f"fusing changed the answers by {error:.2%}")
        note = ", ".join(f"{count} {kind}" for kind, count in found.items())
        return [Made("fused", "fp32", artifact, note=note, same=True)]
