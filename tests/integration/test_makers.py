"""Makers on small networks, each in its own process: what they make answers nearly the same, or they say why not."""

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

from setpoint.engines import EngineOptions, load_onnx
from setpoint.machine import read_machine
from setpoint.optimize.makers import BUILT_IN, MakerJob
from setpoint.optimize.making import Product, Refused, make

RANDOM = np.random.default_rng(11)


def digits() -> np.ndarray:
    images, _ = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32)


def write(path: Path, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], shape: list) -> Path:
    """A graph from ``x`` to ``y``."""
    value = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    answer = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])]
    tensors = [
        numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name) for name, array in constants.items()
    ]
    graph = helper.make_graph(nodes, "g", value, answer, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.fixture
def perceptron(tmp_path: Path) -> Path:
    """64 → 256 → 10; the first matrix has rank 12 but for a little noise."""
    first = RANDOM.standard_normal((64, 12)) @ RANDOM.standard_normal((12, 256)) / 20
    constants = {"w1": first + 1e-4 * RANDOM.standard_normal(first.shape), "w2": RANDOM.standard_normal((256, 10)) / 16}
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w2"], ["y"], name="second"),
    ]
    return write(tmp_path / "perceptron.onnx", nodes, constants, ["n", 64])


@pytest.fixture
def convolution(tmp_path: Path) -> Path:
    """Two convolutions; one channel of the first is a thousand times larger, and the second takes it back."""
    first = RANDOM.standard_normal((16, 1, 3, 3)) / 3
    first[0] *= 1000
    second = RANDOM.standard_normal((16, 16, 3, 3)) / 12
    second[:, 0] /= 1000
    constants = {"k1": first, "k2": second, "w": RANDOM.standard_normal((16 * 64, 10)) / 32}
    nodes = [
        helper.make_node("Conv", ["x", "k1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "k2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("Flatten", ["r2"], ["f"], name="flat"),
        helper.make_node("MatMul", ["f", "w"], ["y"], name="last"),
    ]
    return write(tmp_path / "convolution.onnx", nodes, constants, ["n", 1, 8, 8])


@pytest.fixture
def redundant(tmp_path: Path) -> Path:
    """Two convolutions and two products; of each layer's 32 channels only 8 say something new, or little more."""
    random = np.random.default_rng(5)

    def repeated(*shape: int) -> np.ndarray:
        return np.repeat(random.standard_normal((8, *shape)), 4, axis=0) * random.uniform(
            0.5, 2.0, (32, *[1] * len(shape))
        )

    constants = {
        "k1": repeated(1, 3, 3) / 3,
        "k2": repeated(32, 3, 3) / 20,
        "b2": np.repeat(random.standard_normal(8), 4) / 10,
        "w1": repeated(32 * 16) / 30,
        "w2": random.standard_normal((32, 10)) / 6,
    }
    nodes = [
        helper.make_node("Conv", ["x", "k1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "k2", "b2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("MaxPool", ["r2"], ["m2"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["m2"], ["f"]),
        helper.make_node("Gemm", ["f", "w1"], ["h"], name="hidden", transB=1),  # as PyTorch's layers are exported
        helper.make_node("Relu", ["h"], ["r3"]),
        helper.make_node("MatMul", ["r3", "w2"], ["y"], name="last"),
    ]
    return write(tmp_path / "redundant.onnx", nodes, constants, ["n", 1, 8, 8])


def made(name: str, model: Path, tmp_path: Path, rows: np.ndarray, **job: object) -> Product | Refused:
    calibration = tmp_path / "calibration.npz"
    np.savez(calibration, x=rows[:160])
    cpu = read_machine().cpu
    given = MakerJob(model, tmp_path / "made", calibration, True, True, cpu.architecture, cpu.features, 1, 120.0)
    return make(name, msgspec.structs.replace(given, **job))


def errors(product: Product | Refused, model: Path, rows: np.ndarray) -> dict[str, float]:
    """By variant, how far its answers to rows that it has not seen are from the original's."""
    assert isinstance(product, Product), product

    def ask(path: Path) -> np.ndarray:
        return load_onnx(path, EngineOptions()).run({"x": rows[160:400]})["y"]

    expected = ask(model)
    return {
        one.name: float(np.linalg.norm(ask(one.artifact) - expected) / np.linalg.norm(expected)) for one in product.made
    }


def test_dynamic_int8_is_near(perceptron: Path, tmp_path: Path) -> None:
    product = made("int8-dynamic", perceptron, tmp_path, digits())
    found = errors(product, perceptron, digits())
    assert list(found) == ["int8-dynamic"]
    assert 0.0 < found["int8-dynamic"] < 0.03
    assert product.made[0].artifact.stat().st_size < 0.4 * perceptron.stat().st_size


def test_without_vnni_weights_have_seven_bits(perceptron: Path, tmp_path: Path) -> None:
    product = made("int8-dynamic", perceptron, tmp_path, digits(), architecture="x86_64", features=("avx2",))
    assert isinstance(product, Product)
    assert "7 bits, since this processor has no VNNI" in product.made[0].note
    tensors = onnx.load(product.made[0].artifact).graph.initializer
    weights = [numpy_helper.to_array(each) for each in tensors if each.data_type == TensorProto.INT8]
    assert max(int(np.abs(each.astype(int)).max()) for each in weights) <= 64


def test_weights_of_eight_and_four_bits(perceptron: Path, tmp_path: Path) -> None:
    found = errors(made("weights-only", perceptron, tmp_path, digits()), perceptron, digits())
    assert 0.0 < found["int8-weights"] < 0.03 < found["int4-weights"] < 0.3


def test_a_matrix_of_low_rank_becomes_two(perceptron: Path, tmp_path: Path) -> None:
    product = made("low-rank", perceptron, tmp_path, digits())
    assert errors(product, perceptron, digits())["low-rank-99.9"] < 0.05
    shapes = {each.name: list(each.dims) for each in onnx.load(product.made[0].artifact).graph.initializer}
    assert shapes == {"first_a": [64, 16], "first_b": [16, 256], "w2": [256, 10]}


def test_a_convolution_of_low_rank_becomes_two(redundant: Path, tmp_path: Path) -> None:
    rows = digits().reshape(-1, 1, 8, 8)
    product = made("low-rank", redundant, tmp_path, rows)
    assert errors(product, redundant, rows)["low-rank-99.9"] < 0.05
    shapes = {each.name: list(each.dims) for each in onnx.load(product.made[0].artifact).graph.initializer}
    assert shapes["conv2_a"] == [8, 32, 3, 3]
    assert shapes["conv2_b"] == [32, 8, 1, 1]
    assert shapes["b2"] == [32], "what is added stays with the second one"
    assert shapes["hidden_a"] == [512, 8]
    assert shapes["hidden_b"] == [8, 32]
    assert shapes["k1"] == [32, 1, 3, 3], "nine inputs are not worth two convolutions"


def test_channels_that_say_nothing_new_are_taken_away_whole(redundant: Path, tmp_path: Path) -> None:
    rows = digits().reshape(-1, 1, 8, 8)
    product = made("pruned", redundant, tmp_path, rows)
    found = errors(product, redundant, rows)
    assert found["pruned-99.95"] < 0.05
    assert found["pruned-99.95"] < found["pruned-99"] < 0.3
    shapes = {each.name: list(each.dims) for each in onnx.load(product.made[-1].artifact).graph.initializer}
    kept = (shapes["k1"][0], shapes["k2"][0], shapes["w1"][0])
    assert kept[0] == kept[2] == 8, "what is a multiple of another channel goes"
    assert shapes["k2"] == [kept[1], kept[0], 3, 3]
    assert shapes["b2"] == [kept[1]]
    assert shapes["w1"] == [kept[2], kept[1] * 16]
    assert shapes["w2"] == [kept[2], 10]


def test_what_the_next_layer_needs_is_not_taken_away(convolution: Path, tmp_path: Path) -> None:
    outcome = made("pruned", convolution, tmp_path, digits().reshape(-1, 1, 8, 8))
    if isinstance(outcome, Product):
        assert max(errors(outcome, convolution, digits().reshape(-1, 1, 8, 8)).values()) < 0.3


def test_a_student_learns_the_answers(perceptron: Path, tmp_path: Path) -> None:
    found = errors(made("distilled", perceptron, tmp_path, digits()), perceptron, digits())
    assert list(found) == ["student-64", "student-256"]
    assert max(found.values()) < 0.5, "of answers that vary by as much as they are long"


def test_static_int8_leaves_out_what_hurts(convolution: Path, tmp_path: Path) -> None:
    rows = digits().reshape(-1, 1, 8, 8)
    found = errors(made("int8-static", convolution, tmp_path, rows), convolution, rows)
    assert found["int8-static"] > 0.1, "one range for channels a thousand times apart"
    assert found["int8-static-mixed"] < 0.5 * found["int8-static"]


def test_openvino_runs_the_original_itself(perceptron: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    product = made("openvino", perceptron, tmp_path, digits(), features=("avx512_bf16",))
    assert isinstance(product, Product)
    assert [(one.name, one.artifact, one.entry) for one in product.made] == [
        ("openvino-fp32", perceptron, "fp32"),
        ("openvino-bf16", perceptron, "bf16"),
    ]
    assert len(made("openvino", perceptron, tmp_path, digits(), features=("avx2",)).made) == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fused", "no pattern of a transformer was found to fuse"),
        ("fp16", "onnxruntime gains from 16-bit floats on ARM processors with fp16 only"),
        ("low-rank", "which directions matter is learned from real rows"),
        ("pruned", "which channels matter is learned from real rows"),
        ("distilled", "a student learns from 100 real rows or more"),
        ("int8-static", "ranges of activations need real rows"),
    ],
)
def test_a_maker_that_does_not_suit_says_why(name: str, reason: str, perceptron: Path, tmp_path: Path) -> None:
    outcome = made(name, perceptron, tmp_path, digits(), real=False, architecture="x86_64")
    assert isinstance(outcome, Refused)
    assert reason in outcome.reason


def test_a_maker_that_takes_too_long_is_ended(perceptron: Path, tmp_path: Path) -> None:
    outcome = made("int8-dynamic", perceptron, tmp_path, digits(), seconds=0.05)
    assert outcome == Refused("it was not done within 0 s and was ended")


def test_every_maker_of_ours_is_an_entry_point_too() -> None:
    import tomllib

    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert declared["project"]["entry-points"]["setpoint.makers"] == BUILT_IN
