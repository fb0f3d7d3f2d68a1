"""Weights of 4 or 8 bits in blocks, activations left as they are: smaller files and less memory to read per product.

Worth it where reading weights is what takes the time: large matrices, few rows. With many rows it is often slower,
which is for the measurement to say. The kernel rounds activations to 8 bits as well (``accuracy_level`` 4): without
that, others saw it run 2.3 times slower than floats.
"""

from __future__ import annotations

import importlib.util

import onnx

from setpoint.core import MissingExtra
from setpoint.optimize.makers.base import Made, MakerJob
from setpoint.optimize.makers.graphs import read_whole, require_products

_BLOCK = 32
_ACCURACY_LEVEL_INT8 = 4


class WeightsOnlyMaker:
    """``int8-weights`` and ``int4-weights``."""

    name = "weights-only"
    trains = False

    def make(self, job: MakerJob) -> list[Made]:
        """Quantise the constant sides of matrix products.

        Raises:
            InvalidConfiguration: there are no matrix products to speak of.
            MissingExtra: onnx-ir, which the tool is written with, is not installed.
        """
        if importlib.util.find_spec("onnx_ir") is None:
            raise MissingExtra("onnx-ir", "optimize", "weight-only quantisation")
        require_products(read_whole(job.model))
        return [self._quantise(job, bits) for bits in (8, 4)]

    def _quantise(self, job: MakerJob, bits: int) -> Made:
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        tool = MatMulNBitsQuantizer(
            read_whole(job.model),  # the tool changes the one it is given
            bits=bits,
            block_size=_BLOCK,
            is_symmetric=True,
            accuracy_level=_ACCURACY_LEVEL_INT8,
        )
        tool.process()
        name = f"int{bits}-weights"
        artifact = job.workdir / f"{name}.onnx"
        onnx.save_model(tool.model.model, artifact)
        return Made(name, f"int{bits}", artifact, note=f"weights of {bits} bits in blocks of {_BLOCK}")
