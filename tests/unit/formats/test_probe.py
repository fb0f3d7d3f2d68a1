"""What a graph does is found by running it. Each graph here is one way to be, or not to be, batched."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.helper import make_node

from setpoint.core import FREE, InvalidConfiguration, Signature
from setpoint.formats.probe import probe

Graph = Callable[..., Path]
Sample = Callable[..., Path]


def constant(name: str, values: object, kind: int = TensorProto.INT64) -> TensorProto:
    array = np.array(values)
    return helper.make_tensor(name, kind, array.shape, array.ravel().tolist())


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    def write(**arrays: object) -> Path:
        path = tmp_path / "rows.npz"
        np.savez(path, **arrays)  # type: ignore[arg-type]
        return path

    return write


def shapes(signature: Signature) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    return [spec.shape for spec in signature.inputs], [spec.shape for spec in signature.outputs]


# batched


@pytest.mark.parametrize("axis", ["batch", "whatever", None])
def test_rows_that_do_not_meet_are_batched_whatever_the_axis_is_called(graph: Graph, axis: str | None) -> None:
    path = graph([make_node("Neg", ["x"], ["y"])], {"x": ("FLOAT", [axis, 4])}, {"y": ("FLOAT", [axis, 4])})
    found = probe(path)
    assert found.signature.batched
    assert shapes(found.signature) == ([(FREE, 4)], [(FREE, 4)])
    assert found.checks[0].startswith("batched on made-up rows: rows together are the rows alone exactly")


def test_nan_equals_nan(graph: Graph) -> None:
    nodes = [make_node("Sub", ["x", "x"], ["zero"]), make_node("Div", ["zero", "zero"], ["y"])]
    assert probe(graph(nodes, {"x": ("FLOAT", ["n", 2])}, {"y": ("FLOAT", ["n", 2])})).signature.batched


def test_tokens_must_be_of_equal_length_and_small(graph: Graph) -> None:
    """Two inputs share the symbol ``seq``, and values index a table of three."""
    table = helper.make_tensor("table", TensorProto.FLOAT, [3, 2], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    nodes = [
        make_node("Gather", ["table", "ids"], ["rows"]),
        make_node("Cast", ["mask"], ["weights"], to=TensorProto.FLOAT),
        make_node("Unsqueeze", ["weights", "last"], ["columns"]),
        make_node("Mul", ["rows", "columns"], ["y"]),
    ]
    inputs = {"ids": ("INT64", ["batch", "seq"]), "mask": ("INT64", ["batch", "seq"])}
    path = graph(nodes, inputs, {"y": ("FLOAT", ["batch", "seq", 2])}, (table, constant("last", [2])))
    found = probe(path)
    assert found.signature.batched
    assert shapes(found.signature) == ([(FREE, FREE), (FREE, FREE)], [(FREE, FREE, 2)])


@pytest.mark.parametrize("length", [16, 32, 64, 224])
def test_a_length_that_the_graph_insists_on_is_found(graph: Graph, length: int) -> None:
    must = helper.make_tensor("must", TensorProto.FLOAT, [length], [0.0] * length)
    nodes = [make_node("Add", ["x", "must"], ["sum"]), make_node("Reshape", ["sum", "shape"], ["y"])]
    outputs = {"y": ("FLOAT", ["n", 2, length // 2])}
    initializers = (must, constant("shape", [-1, 2, length // 2]))
    path = graph(nodes, {"x": ("FLOAT", ["n", "m"])}, outputs, initializers)
    assert probe(path).signature.batched


def test_different_lengths_of_two_symbols_are_found(graph: Graph) -> None:
    must = [
        helper.make_tensor(name, TensorProto.FLOAT, [length], [0.0] * length) for name, length in (("p", 8), ("q", 16))
    ]
    nodes = [
        make_node("Add", ["a", "p"], ["left"]),
        make_node("Add", ["b", "q"], ["right"]),
        make_node("ReduceSum", ["left", "one"], ["s"]),
        make_node("ReduceSum", ["right", "one"], ["t"]),
        make_node("Add", ["s", "t"], ["y"]),
    ]
    inputs = {"a": ("FLOAT", ["n", "k"]), "b": ("FLOAT", ["n", "l"])}
    found = probe(graph(nodes, inputs, {"y": ("FLOAT", ["n", 1])}, (*must, constant("one", [1]))))
    assert shapes(found.signature)[0] == [(FREE, FREE), (FREE, FREE)]


def test_outputs_that_lie_about_their_length_are_described_as_seen(graph: Graph) -> None:
    """LightGBM's converter declares its labels ``[1]`` and gives one per row; multi-target trees declare ``[n, 1]``."""
    nodes = [
        make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
        make_node("Normalizer", ["x"], ["values"], domain="ai.onnx.ml", norm="MAX"),
    ]
    outputs = {"label": ("INT64", [1]), "values": ("FLOAT", ["n", 1])}
    found = probe(graph(nodes, {"x": ("FLOAT", ["n", 3])}, outputs))
    assert found.signature.batched
    assert shapes(found.signature)[1] == [(FREE,), (FREE, 3)]


def test_an_output_axis_that_follows_an_inner_input_axis_is_free(graph: Graph) -> None:
    path = graph([make_node("Neg", ["x"], ["y"])], {"x": ("FLOAT", ["n", "m"])}, {"y": ("FLOAT", ["n", 8])})
    assert shapes(probe(path).signature)[1] == [(FREE, FREE)]


def test_text_rows(graph: Graph) -> None:
    keys = {"keys_strings": ["yes", "no"], "values_strings": ["ja", "nein"], "default_string": "?"}
    node = make_node("LabelEncoder", ["row"], ["german"], domain="ai.onnx.ml", **keys)
    found = probe(graph([node], {"row": ("STRING", ["n"])}, {"german": ("STRING", ["n"])}))
    assert found.signature.batched
    assert str(found.signature) == "row BYTES[-1] → german BYTES[-1]"


# unbatched


def softmax_over_the_batch() -> tuple[list[object], tuple[TensorProto, ...]]:
    return [make_node("Softmax", ["x"], ["y"], axis=0)], ()


def minus_the_batch_mean() -> tuple[list[object], tuple[TensorProto, ...]]:
    nodes = [make_node("ReduceMean", ["x", "zero"], ["mean"], keepdims=1), make_node("Sub", ["x", "mean"], ["y"])]
    return nodes, (constant("zero", [0]),)


def cumulative_sum() -> tuple[list[object], tuple[TensorProto, ...]]:
    return [make_node("CumSum", ["x", "axis"], ["y"])], (constant("axis", 0),)


def rank_among_rows() -> tuple[list[object], tuple[TensorProto, ...]]:
    return [make_node("Max", ["x", "top"], ["y"]), make_node("ReduceMax", ["x", "zero"], ["top"], keepdims=1)][::-1], (
        constant("zero", [0]),
    )


@pytest.mark.parametrize("make", [softmax_over_the_batch, minus_the_batch_mean, cumulative_sum, rank_among_rows])
def test_rows_that_meet_are_served_alone(
    graph: Graph, make: Callable[[], tuple[list[object], tuple[TensorProto]]]
) -> None:
    nodes, initializers = make()
    path = graph(nodes, {"x": ("FLOAT", ["batch", 4])}, {"y": ("FLOAT", ["batch", 4])}, initializers)
    found = probe(path)
    assert not found.signature.batched
    assert "depends on the other rows of its batch" in found.checks[0]
    assert shapes(found.signature) == ([(FREE, 4)], [(FREE, 4)])


def test_a_state_tensor_is_no_row(graph: Graph) -> None:
    nodes = [make_node("Add", ["x", "state"], ["y"]), make_node("Identity", ["state"], ["next"])]
    inputs = {"x": ("FLOAT", ["n", 4]), "state": ("FLOAT", [1, 4])}
    found = probe(graph(nodes, inputs, {"y": ("FLOAT", ["n", 4]), "next": ("FLOAT", [1, 4])}))
    assert not found.signature.batched
    assert shapes(found.signature) == ([(FREE, 4), (1, 4)], [(FREE, 4), (1, 4)])


def test_a_state_that_depends_on_the_batch_length_runs_with_it(graph: Graph) -> None:
    inputs = {"x": ("FLOAT", ["batch", 4]), "state": ("FLOAT", [2, "batch", 4])}
    nodes = [make_node("Add", ["x", "state"], ["y"])]
    found = probe(graph(nodes, inputs, {"y": ("FLOAT", [2, "batch", 4])}))
    assert not found.signature.batched
    assert shapes(found.signature) == ([(FREE, 4), (2, FREE, 4)], [(2, FREE, 4)])


def test_a_scalar_input_is_no_row(graph: Graph) -> None:
    inputs = {"x": ("FLOAT", ["n", 4]), "factor": ("FLOAT", [])}
    found = probe(graph([make_node("Mul", ["x", "factor"], ["y"])], inputs, {"y": ("FLOAT", ["n", 4])}))
    assert not found.signature.batched
    assert shapes(found.signature)[0] == [(FREE, 4), ()]


@pytest.mark.parametrize(
    ("node", "output"),
    [
        (make_node("Transpose", ["x"], ["y"], perm=[1, 0]), [4, "n"]),
        (make_node("ReduceSum", ["x"], ["y"], keepdims=0), []),
        (make_node("Unsqueeze", ["x", "zero"], ["y"]), [1, "n", 4]),
    ],
)
def test_an_output_whose_first_axis_is_not_the_inputs(graph: Graph, node: object, output: list[object]) -> None:
    path = graph([node], {"x": ("FLOAT", ["n", 4])}, {"y": ("FLOAT", output)}, (constant("zero", [0]),))
    found = probe(path)
    assert not found.signature.batched
    assert "has not one row per input row" in found.checks[0]


def test_a_fixed_batch_of_one_is_not_pretended_away(graph: Graph) -> None:
    path = graph([make_node("Neg", ["x"], ["y"])], {"x": ("FLOAT", [1, 4])}, {"y": ("FLOAT", [1, 4])})
    found = probe(path)
    assert not found.signature.batched
    assert shapes(found.signature) == ([(1, 4)], [(1, 4)])


def test_two_inputs_with_rows_of_their_own(graph: Graph) -> None:
    """A similarity matrix: both first axes are free, and every row of one meets every row of the other."""
    nodes = [make_node("Transpose", ["b"], ["bt"], perm=[1, 0]), make_node("MatMul", ["a", "bt"], ["y"])]
    inputs = {"a": ("FLOAT", ["n", 4]), "b": ("FLOAT", ["m", 4])}
    assert not probe(graph(nodes, inputs, {"y": ("FLOAT", ["n", "m"])})).signature.batched


def test_dice_are_not_batched(graph: Graph) -> None:
    nodes = [make_node("RandomUniformLike", ["x"], ["dice"]), make_node("Add", ["x", "dice"], ["y"])]
    found = probe(graph(nodes, {"x": ("FLOAT", ["n", 4])}, {"y": ("FLOAT", ["n", 4])}))
    assert not found.signature.batched
    assert "from run to run" in found.checks[0]


def test_a_model_without_inputs(graph: Graph) -> None:
    node = make_node("Constant", [], ["y"], value_floats=[1.0, 2.0])
    found = probe(graph([node], {}, {"y": ("FLOAT", [2])}))
    assert not found.signature.batched
    assert shapes(found.signature) == ([], [(2,)])


# samples


def only_category_seven(graph: Graph) -> Path:
    """Fails on any made-up integer: the table has no row that they reach after the shift."""
    table = helper.make_tensor("table", TensorProto.FLOAT, [2, 1], [1.0, 2.0])
    nodes = [make_node("Sub", ["x", "shift"], ["index"]), make_node("Gather", ["table", "index"], ["y"])]
    return graph(nodes, {"x": ("INT64", ["n"])}, {"y": ("FLOAT", ["n", 1])}, (table, constant("shift", 700)))


def test_when_nothing_runs_a_sample_is_asked_for(graph: Graph) -> None:
    with pytest.raises(InvalidConfiguration, match=r"give real rows: --sample rows\.npz.*out of data bounds"):
        probe(only_category_seven(graph))


def test_the_sample_is_used(graph: Graph, sample: Sample) -> None:
    found = probe(only_category_seven(graph), sample(x=np.array([700, 701, 700])))
    assert found.signature.batched
    assert found.checks[0].startswith("batched on rows of rows.npz")


def test_one_row_cannot_show_a_batch(graph: Graph, sample: Sample) -> None:
    found = probe(only_category_seven(graph), sample(x=np.array([700])))
    assert not found.signature.batched
    assert "a sample of several rows may show" in found.checks[0]


def test_a_sample_that_does_not_run_is_named(graph: Graph, sample: Sample) -> None:
    with pytest.raises(InvalidConfiguration, match=r"the model failed: .* \(on the rows of .*rows\.npz\)"):
        probe(only_category_seven(graph), sample(x=np.array([1])))


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"a": np.zeros((2, 2)), "b": np.zeros((2, 2))}, "expected one array for each of x"),
        ({"x": np.zeros((2, 3))}, r"expected x FP32\[-1, 2\], got shape \[2, 3\]"),
        ({"x": np.zeros(2)}, r"got shape \[2\]"),
        ({"x": np.array([["a", "b"]])}, "got <U1"),
    ],
)
def test_samples_that_do_not_fit_are_refused(
    graph: Graph, sample: Sample, arrays: dict[str, object], complaint: str
) -> None:
    path = graph([make_node("Neg", ["x"], ["y"])], {"x": ("FLOAT", ["n", 2])}, {"y": ("FLOAT", ["n", 2])})
    with pytest.raises(InvalidConfiguration, match=complaint):
        probe(path, sample(**arrays))


def test_integers_of_a_sample_may_not_change(graph: Graph, sample: Sample) -> None:
    path = graph([make_node("Neg", ["x"], ["y"])], {"x": ("INT32", ["n"])}, {"y": ("INT32", ["n"])})
    assert probe(path, sample(x=np.array([1.0, 2.0]))).signature.batched
    with pytest.raises(InvalidConfiguration, match="values that do not fit"):
        probe(path, sample(x=np.array([1.5, 2.0])))


def test_a_sample_holds_no_pickles(graph: Graph, tmp_path: Path) -> None:
    path = graph([make_node("Neg", ["x"], ["y"])], {"x": ("FLOAT", ["n"])}, {"y": ("FLOAT", ["n"])})
    np.savez(tmp_path / "rows.npz", x=np.array([{}], object))
    with pytest.raises(InvalidConfiguration, match="cannot be read as"):
        probe(path, tmp_path / "rows.npz")


# activations quantised as they run


def test_one_quantisation_range_per_batch_is_tolerated_and_told(graph: Graph) -> None:
    nodes = [
        make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    path = graph(nodes, {"x": ("FLOAT", ["n", 8])}, {"y": ("FLOAT", ["n", 8])})
    assert not probe(path).signature.batched
    found = probe(path, shares_range=True)
    assert found.signature.batched
    assert "one quantisation range per batch" in found.checks[0]
