"""A ``.tflite`` file written without TensorFlow: a dense layer and a softmax, with weights of a trained model."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


def dense_softmax(input_name: str, output_name: str, weights: np.ndarray, offset: np.ndarray) -> bytes:
    """Logistic regression as a model file for one row.

    Args:
        input_name, output_name: of its tensors.
        weights: [classes, columns].
        offset: [classes].
    """
    classes, columns = weights.shape
    buffers = [schema.BufferT()]

    def tensor(name: str, shape: list[int], values: np.ndarray | None = None) -> schema.TensorT:
        made = schema.TensorT()
        made.name, made.shape, made.type = name.encode(), shape, schema.TensorType.FLOAT32
        made.buffer = 0
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(values, np.float32).tobytes(), np.uint8)
            buffers.append(buffer)
            made.buffer = len(buffers) - 1
        return made

    def operator(code: int, inputs: list[int], outputs: list[int], kind: int, options: object) -> schema.OperatorT:
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = code, inputs, outputs
        made.builtinOptionsType, made.builtinOptions = kind, options
        return made

    def code(builtin: int) -> schema.OperatorCodeT:
        made = schema.OperatorCodeT()
        made.builtinCode = made.deprecatedBuiltinCode = builtin
        made.version = 1
        return made

    graph = schema.SubGraphT()
    graph.tensors = [
        tensor(input_name, [1, columns]),
        tensor("weights", [classes, columns], weights),
        tensor("offset", [classes], offset),
        tensor("scores", [1, classes]),
        tensor(output_name, [1, classes]),
    ]
    graph.inputs, graph.outputs = [0], [4]
    dense, softmax = schema.FullyConnectedOptionsT(), schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    graph.operators = [
        operator(0, [0, 1, 2], [3], schema.BuiltinOptions.FullyConnectedOptions, dense),
        operator(1, [3], [4], schema.BuiltinOptions.SoftmaxOptions, softmax),
    ]
    model = schema.ModelT()
    model.version, model.subgraphs, model.buffers = 3, [graph], buffers
    model.operatorCodes = [code(schema.BuiltinOperator.FULLY_CONNECTED), code(schema.BuiltinOperator.SOFTMAX)]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
