"""Logistic regression on handwritten digits, in each of the files that an engine reads as they are."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from tflite_files import dense_softmax

DIGITS, NUMERALS = load_digits(return_X_y=True)
DIGITS = (DIGITS / 16).astype(np.float32)
LEARNT = LogisticRegression(max_iter=300).fit(DIGITS, NUMERALS)


def digits_graph() -> onnx.ModelProto:
    """Logistic regression on handwritten digits."""
    weights = onnx.numpy_helper.from_array(LEARNT.coef_.T.astype(np.float32), "weights")
    offset = onnx.numpy_helper.from_array(LEARNT.intercept_.astype(np.float32), "offset")
    nodes = [
        helper.make_node("Gemm", ["image", "weights", "offset"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"]),
    ]
    takes = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", 64])]
    gives = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 10])]
    graph = helper.make_graph(nodes, "digits", takes, gives, [weights, offset])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def ort_file(folder: Path) -> Path:
    settings = onnxruntime.SessionOptions()
    settings.optimized_model_filepath = str(folder / "digits.ort")
    settings.add_session_config_entry("session.save_model_format", "ORT")
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    onnxruntime.InferenceSession(digits_graph().SerializeToString(), settings, providers=["CPUExecutionProvider"])
    return folder / "digits.ort"


def openvino_file(folder: Path) -> Path:
    onnx.save(digits_graph(), folder / "graph.onnx")
    (folder / "ir").mkdir()
    openvino.save_model(openvino.Core().read_model(folder / "graph.onnx"), folder / "ir" / "digits.xml", False)
    return folder / "ir" / "digits.xml"


def tflite_file(folder: Path) -> Path:
    (folder / "digits.tflite").write_bytes(dense_softmax("image", "probabilities", LEARNT.coef_, LEARNT.intercept_))
    return folder / "digits.tflite"
