"""A graph made ready for quantising: shapes inferred, constants folded, names given to nodes that have none."""

from __future__ import annotations

from pathlib import Path

import onnx

from setpoint.optimize.makers.base import MakerJob


def prepared(job: MakerJob, model: onnx.ModelProto) -> Path:
    """A file with the model, simplified without changing what it computes, with its weights inside.

    Where the tool cannot, with inferred shapes only. A file, since onnxruntime's tools fail on some models in memory.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    given, ready = job.workdir / "given.onnx", job.workdir / "prepared.onnx"
    onnx.save_model(model, given)
    try:
        quant_pre_process(given, ready, skip_symbolic_shape=True)
        found = onnx.load_model(ready)
    except Exception as error:  # the tool raises what it likes; what it is for can be done without
        print(f"pre-processing was left out: {error}")  # noqa: T201  # the maker's process: this is its log
        found = onnx.shape_inference.infer_shapes(model)
    for index, node in enumerate(found.graph.node):
        if not node.name:  # quantisers go by names
            node.name = f"{node.op_type}_{index}"
    onnx.save_model(found, ready)
    given.unlink()
    return ready
