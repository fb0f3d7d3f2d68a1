"""8-bit weights, activations quantised as they come: for models of matrix products, such as transformers.

Only matrix products: onnxruntime has no fast dynamic path for convolutions (a digits network became 4 times slower).
"""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto

from setpoint.optimize.makers.base import Made, MakerJob
from setpoint.optimize.makers.graphs import read_whole, require_products
from setpoint.optimize.makers.prepared import prepared


class DynamicInt8Maker:
    """``int8-dynamic``; where the graph looks words up in a table, also ``int8-dynamic-tables``, which shrinks that."""

    name = "int8-dynamic"
    trains = False

    def make(self, job: MakerJob) -> list[Made]:
        """Quantise weights per output channel.

        Raises:
            InvalidConfiguration: there are no matrix products to speak of.
        """
        model = read_whole(job.model)
        require_products(model)
        source = prepared(job, model)
        weights = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 2}
        tables = [node for node in model.graph.node if node.op_type == "Gather" and node.input[0] in weights]
        made = [self._quantise(job, source, "int8-dynamic", ["MatMul", "Gemm"])]
        if tables:
            made.append(self._quantise(job, source, "int8-dynamic-tables", ["MatMul", "Gemm", "Gather"]))
        return made

    def _quantise(self, job: MakerJob, source: Path, name: str, operators: list[str]) -> Made:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        artifact = job.workdir / f"{name}.onnx"
        quantize_dynamic(
            source,
            artifact,
            op_types_to_quantize=operators,
            per_channel=True,
            reduce_range=job.saturates,
            weight_type=QuantType.QInt8,
            extra_options={
                # Products of two activations, as in attention, have no weights to shrink and lose the most.
                "MatMulConstBOnly": True,
                # For what lies behind operators that shape inference does not know, such as scikit-learn's.
                "DefaultTensorType": TensorProto.FLOAT,
            },
        )
        bits = "7 bits, since this processor has no VNNI" if job.saturates else "8 bits"
        return Made(name, "int8", artifact, note=f"{', '.join(operators)}: weights of {bits} per channel")
