"""The same file on another engine: OpenVINO in 32-bit floats, and in bfloat16 where the processor has it."""

from __future__ import annotations

import importlib.util

from setpoint.core import MissingExtra
from setpoint.optimize.makers.base import Made, MakerJob

_BF16_FEATURES = {"avx512_bf16", "amx_bf16", "bf16"}


class OpenvinoMaker:
    """``openvino-fp32``; ``openvino-bf16`` where the processor has instructions for bfloat16."""

    name = "openvino"
    trains = False

    def make(self, job: MakerJob) -> list[Made]:
        """Nothing is made: the engine compiles the original when it loads it.

        Raises:
            MissingExtra: OpenVINO is not installed.
        """
        if importlib.util.find_spec("openvino") is None:
            raise MissingExtra("openvino", "openvino", "the OpenVINO engine")
        made = [Made("openvino-fp32", "fp32", job.model, "openvino", "fp32", "the original on OpenVINO", same=True)]
        if _BF16_FEATURES & set(job.features):
            made.append(
                Made("openvino-bf16", "bf16", job.model, "openvino", "bf16", "the original on OpenVINO in bfloat16")
            )
        return made
