"""Small models that the clients ask, and the token of whoever may load and unload them."""

import onnx
from onnx import TensorProto, helper

TOKEN = "correct-horse-battery"


def graph(nodes: list[onnx.NodeProto], takes: tuple[str, int, int], *gives: str) -> onnx.ModelProto:
    """A graph of one input, ``(name, datatype, width)``, and outputs of the same kind."""
    name, datatype, width = takes
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, datatype, ["n", width])],
        [helper.make_tensor_value_info(output, datatype, ["n", width]) for output in gives],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


TWICE = graph(
    [helper.make_node("Add", ["x", "x"], ["y"]), helper.make_node("Neg", ["x"], ["z"])],
    ("x", TensorProto.FLOAT, 4),
    "y",
    "z",
)
TEXTS = graph([helper.make_node("Identity", ["t"], ["u"])], ("t", TensorProto.STRING, 2), "u")
HALVES = graph([helper.make_node("Identity", ["h"], ["i"])], ("h", TensorProto.FLOAT16, 4), "i")
SOURCES = {"twice": TWICE, "spare": TWICE, "texts": TEXTS, "halves": HALVES}
"""What is served, by name."""
