"""16-bit floats on ARM processors that multiply them; elsewhere onnxruntime would only convert to and fro."""

from __future__ import annotations

import onnx

from setpoint.core import InvalidConfiguration
from setpoint.optimize.makers.base import Made, MakerJob
from setpoint.optimize.makers.graphs import read_whole, require_weights

_ARM = ("aarch64", "arm64")


class HalfMaker:
    """``fp16``."""

    name = "fp16"
    trains = False

    def make(self, job: MakerJob) -> list[Made]:
        """Convert weights and arithmetic; inputs and outputs stay as the signature has them.

        Raises:
            InvalidConfiguration: this processor has no 16-bit arithmetic that the engine uses, or there are no weights.
        """
        if job.architecture not in _ARM or "fp16" not in job.features:
            raise InvalidConfiguration(
                "onnxruntime gains from 16-bit floats on ARM processors with fp16 only; for bfloat16 there is OpenVINO"
            )
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model = read_whole(job.model)
        require_weights(model)
        artifact = job.workdir / "fp16.onnx"
        onnx.save_model(convert_float_to_float16(model, keep_io_types=True), artifact)
        return [Made("fp16", "fp16", artifact, note="16-bit floats inside")]
