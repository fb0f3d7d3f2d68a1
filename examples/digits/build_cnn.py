"""Train a small convolution network on scikit-learn's handwritten digits and write it as ONNX, with its examples.

    python examples/digits/build_cnn.py build/digits

Writes `cnn.onnx` and `labelled.npz` (the rows it was not trained on, with their true labels), which is what
`setpoint optimize build/digits/cnn.onnx --data build/digits/labelled.npz` takes. Nothing but numpy trains it: two
convolutions, two matrix products, Adam; a few seconds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

Floats = npt.NDArray[np.float32]
Weights = dict[str, Floats]

CHANNELS = (1, 64, 128)
WIDTH = 256
CLASSES = 10
SIDE = 8
RATE, BATCH = 2e-3, 64
OPSET, IR_VERSION = 17, 8


def digits() -> tuple[Floats, npt.NDArray[np.int64], Floats, npt.NDArray[np.int64]]:
    """Images [n, 1, 8, 8] between 0 and 1 and their labels: 60 % to train with, then the rest."""
    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    images = (bunch.images[order, None] / 16).astype(np.float32)
    labels = bunch.target[order].astype(np.int64)
    split = int(0.6 * len(labels))
    return images[:split], labels[:split], images[split:], labels[split:]


def patches(images: Floats) -> Floats:
    """Each pixel's 3 x 3 neighbourhood in all channels, zeros outside: [n, c, h, w] to [n, h, w, 9c]."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.ascontiguousarray(views.transpose(0, 2, 3, 1, 4, 5)).reshape(*views.shape[:1], SIDE, SIDE, -1)


def unpatches(gradient: Floats, channels: int) -> Floats:
    """The gradient of `patches`: each neighbourhood's part goes back to where it came from."""
    count = len(gradient)
    parts = gradient.reshape(count, SIDE, SIDE, channels, 3, 3).transpose(0, 3, 1, 2, 4, 5)
    padded = np.zeros((count, channels, SIDE + 2, SIDE + 2), np.float32)
    for row in range(3):
        for column in range(3):
            padded[:, :, row : row + SIDE, column : column + SIDE] += parts[..., row, column]
    return padded[:, :, 1:-1, 1:-1]


def initial(random: np.random.Generator) -> Weights:
    """He's initialisation; kernels as [9 * inputs, outputs]."""
    shapes = {
        "conv1": (9, CHANNELS[1]),
        "conv2": (9 * CHANNELS[1], CHANNELS[2]),
        "dense1": (16 * CHANNELS[2], WIDTH),
        "dense2": (WIDTH, CLASSES),
    }
    weights: Weights = {}
    for name, shape in shapes.items():
        weights[name] = (random.standard_normal(shape) * np.sqrt(2 / shape[0])).astype(np.float32)
        weights[name + "_bias"] = np.zeros(shape[1], np.float32)
    return weights


def gradients(weights: Weights, images: Floats, labels: npt.NDArray[np.int64]) -> Weights:
    """Of the mean cross-entropy."""
    count = len(images)
    first = patches(images)
    one = np.maximum(first @ weights["conv1"] + weights["conv1_bias"], 0)
    second = patches(one.transpose(0, 3, 1, 2))
    two = np.maximum(second @ weights["conv2"] + weights["conv2_bias"], 0)
    cells = two.reshape(count, 4, 2, 4, 2, CHANNELS[2])
    pooled = cells.max(axis=(2, 4))
    flat = pooled.transpose(0, 3, 1, 2).reshape(count, -1)
    hidden = np.maximum(flat @ weights["dense1"] + weights["dense1_bias"], 0)
    logits = hidden @ weights["dense2"] + weights["dense2_bias"]

    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    shares[np.arange(count), labels] -= 1
    to_logits = shares / count
    found: Weights = {"dense2": hidden.T @ to_logits, "dense2_bias": to_logits.sum(axis=0)}
    to_hidden = (to_logits @ weights["dense2"].T) * (hidden > 0)
    found |= {"dense1": flat.T @ to_hidden, "dense1_bias": to_hidden.sum(axis=0)}
    to_pooled = (to_hidden @ weights["dense1"].T).reshape(count, CHANNELS[2], 4, 4).transpose(0, 2, 3, 1)
    to_two = np.where(cells == pooled[:, :, None, :, None], to_pooled[:, :, None, :, None], 0)
    to_two = to_two.reshape(count, SIDE, SIDE, CHANNELS[2]) * (two > 0)
    found |= {"conv2": np.tensordot(second, to_two, ((0, 1, 2), (0, 1, 2))), "conv2_bias": to_two.sum(axis=(0, 1, 2))}
    to_one = unpatches(to_two @ weights["conv2"].T, CHANNELS[1]).transpose(0, 2, 3, 1) * (one > 0)
    found |= {"conv1": np.tensordot(first, to_one, ((0, 1, 2), (0, 1, 2))), "conv1_bias": to_one.sum(axis=(0, 1, 2))}
    return found


def train(images: Floats, labels: npt.NDArray[np.int64], epochs: int) -> Weights:
    """Adam; the same weights every time on one machine."""
    random = np.random.default_rng(1)
    weights = initial(random)
    mean = {name: np.zeros_like(value) for name, value in weights.items()}
    square = {name: np.zeros_like(value) for name, value in weights.items()}
    step = 0
    for _ in range(epochs):
        order = random.permutation(len(images))
        for start in range(0, len(order), BATCH):
            step += 1
            which = order[start : start + BATCH]
            for name, gradient in gradients(weights, images[which], labels[which]).items():
                mean[name] = 0.9 * mean[name] + 0.1 * gradient
                square[name] = 0.999 * square[name] + 0.001 * gradient**2
                size = RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
                weights[name] = (weights[name] - size * mean[name] / (np.sqrt(square[name]) + 1e-8)).astype(np.float32)
    return weights


def to_onnx(weights: Weights) -> onnx.ModelProto:
    """The network in standard operators: `image` float32 [batch, 1, 8, 8] to `logits` float32 [batch, 10]."""
    constants = []
    for index, name in enumerate(("conv1", "conv2")):
        kernel = weights[name].reshape(CHANNELS[index], 3, 3, CHANNELS[index + 1]).transpose(3, 0, 1, 2)
        constants += [(name, kernel), (name + "_bias", weights[name + "_bias"])]
    for name in ("dense1", "dense2"):
        constants += [(name, weights[name]), (name + "_bias", weights[name + "_bias"])]

    def op(kind: str, inputs: list[str], output: str, **attributes: object) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, [output], name=output, **attributes)

    nodes = [
        op("Conv", ["image", "conv1", "conv1_bias"], "convolved1", pads=[1, 1, 1, 1]),
        op("Relu", ["convolved1"], "kept1"),
        op("Conv", ["kept1", "conv2", "conv2_bias"], "convolved2", pads=[1, 1, 1, 1]),
        op("Relu", ["convolved2"], "kept2"),
        op("MaxPool", ["kept2"], "pooled", kernel_shape=[2, 2], strides=[2, 2]),
        op("Flatten", ["pooled"], "flat"),
        op("Gemm", ["flat", "dense1", "dense1_bias"], "hidden1"),
        op("Relu", ["hidden1"], "hidden"),
        op("Gemm", ["hidden", "dense2", "dense2_bias"], "logits"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])
    initializers = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants]
    graph = helper.make_graph(nodes, "digits", [image], [logits], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a convolution network on the digits; write it as ONNX.")
    parser.add_argument("folder", type=Path, help="where to write cnn.onnx and labelled.npz")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--channels", type=int, nargs=2, default=CHANNELS[1:], help="of the two convolutions")
    arguments = parser.parse_args()
    globals()["CHANNELS"] = (1, *arguments.channels)
    images, labels, other_images, other_labels = digits()
    model = to_onnx(train(images, labels, arguments.epochs))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    (arguments.folder / "cnn.onnx").write_bytes(model.SerializeToString(deterministic=True))
    np.savez(arguments.folder / "labelled.npz", image=other_images, label=other_labels)
    print(
        f"{arguments.folder / 'cnn.onnx'}  {model.ByteSize() / 1e6:.2f} MB, {len(other_labels)} labelled rows beside it"
    )


if __name__ == "__main__":
    main()
