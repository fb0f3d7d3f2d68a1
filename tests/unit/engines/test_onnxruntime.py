"""The ONNX Runtime engine: every type both ways, errors in one line, no thread and no byte to spare."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.helper import make_node

from setpoint.core import DATATYPES, InvalidConfiguration, ModelError, TensorSpec, Variant
from setpoint.engines import EngineOptions, load_executable, load_onnx
from setpoint.engines.onnxruntime import describe

Graph = Callable[..., Path]
ONNX_NAMES = {
    "BOOL": "BOOL",
    "FP16": "FLOAT16",
    "BF16": "BFLOAT16",
    "FP32": "FLOAT",
    "FP64": "DOUBLE",
    "BYTES": "STRING",
}


def identity(graph: Graph, kind: str) -> Path:
    return graph([make_node("Identity", ["x"], ["y"])], {"x": (kind, ["n", 2])}, {"y": (kind, ["n", 2])})


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_goes_in_and_comes_out(graph: Graph, datatype: str) -> None:
    path = identity(graph, ONNX_NAMES.get(datatype, datatype))
    executable = load_onnx(path, EngineOptions())
    if datatype == "BYTES":
        given = np.array([[b"a", "é日本".encode()], [b"", b"with\0null"]], object)
    else:
        given = np.array([[0, 1], [1, 0]]).astype(DATATYPES[datatype].dtype)
    (answer,) = executable.run({"x": given}).values()
    assert answer.dtype == given.dtype
    assert answer.tolist() == given.tolist()
    assert describe(path) == ((TensorSpec("x", datatype, (-1, 2)),), (TensorSpec("y", datatype, (-1, 2)),))


@pytest.mark.parametrize("kind", ["FLOAT", "BFLOAT16", "STRING"])
def test_answers_hold_nothing_of_the_inputs(graph: Graph, kind: str) -> None:
    """Inputs are views of shared memory that the next batch overwrites."""
    executable = load_onnx(identity(graph, kind), EngineOptions())
    dtype = {"FLOAT": np.float32, "BFLOAT16": ml_dtypes.bfloat16, "STRING": object}[kind]
    given = np.array([[b"1", b"2"]] if kind == "STRING" else [[1, 2]], dtype)
    (answer,) = executable.run({"x": given}).values()
    before = answer.tolist()
    given[:] = b"9" if kind == "STRING" else 9
    assert answer.tolist() == before


def test_inputs_need_not_be_contiguous(graph: Graph) -> None:
    executable = load_onnx(identity(graph, "FLOAT"), EngineOptions())
    given = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
    np.testing.assert_array_equal(executable.run({"x": given})["y"], given)


def test_mixed_bfloat16_and_others(graph: Graph) -> None:
    nodes = [make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT), make_node("Shape", ["x"], ["s"])]
    path = graph(nodes, {"x": ("BFLOAT16", ["n"])}, {"y": ("FLOAT", ["n"]), "s": ("INT64", [1])})
    answers = load_onnx(path, EngineOptions()).run({"x": np.array([1.5, -2], ml_dtypes.bfloat16)})
    assert answers["y"].tolist() == [1.5, -2.0]
    assert answers["s"].tolist() == [2]


def test_text_that_is_no_text_is_said_so(graph: Graph) -> None:
    executable = load_onnx(identity(graph, "STRING"), EngineOptions())
    with pytest.raises(ModelError, match=r"input 'x', element 1: .*expected UTF-8, got byte 0xff at position 2"):
        executable.run({"x": np.array([[b"fine", b"ab\xff"]], object)})


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"wrong": np.zeros((1, 2), np.float32)},
        {"x": np.zeros((1, 3), np.float32)},
        {"x": np.zeros(2, np.float32)},
        {"x": np.zeros((1, 2), np.float64)},
    ],
)
def test_failures_of_a_run_are_one_line(graph: Graph, inputs: dict[str, np.ndarray]) -> None:  # type: ignore[type-arg]
    executable = load_onnx(identity(graph, "FLOAT"), EngineOptions(), quiet=True)
    with pytest.raises(ModelError, match="the model failed: ") as caught:
        executable.run(inputs)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 350


def test_a_failing_operator_is_a_model_error(graph: Graph) -> None:
    nodes = [make_node("Gather", ["table", "x"], ["y"])]
    table = helper.make_tensor("table", TensorProto.FLOAT, [2], [1.0, 2.0])
    path = graph(nodes, {"x": ("INT64", ["n"])}, {"y": ("FLOAT", ["n"])}, (table,))
    executable = load_onnx(path, EngineOptions(), quiet=True)
    assert executable.run({"x": np.array([1])})["y"].tolist() == [2.0]
    with pytest.raises(ModelError, match="out of data bounds"):
        executable.run({"x": np.array([5])})


def test_what_fails_before_anything_was_answered_is_not_printed(
    graph: Graph, capfd: pytest.CaptureFixture[str]
) -> None:
    two = helper.make_tensor("two", TensorProto.INT64, [1], [2])
    path = graph([make_node("Reshape", ["x", "two"], ["y"])], {"x": ("FLOAT", ["n"])}, {"y": ("FLOAT", [2])}, (two,))
    executable = load_onnx(path, EngineOptions())

    def fail() -> str:
        with pytest.raises(ModelError, match="Reshape node"):
            executable.run({"x": np.zeros(3, np.float32)})
        return capfd.readouterr().err

    assert fail() == ""
    executable.run({"x": np.zeros(2, np.float32)})
    assert "Reshape node" in fail(), "of a model that has answered, an operator sees it"


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x09"])
def test_what_cannot_be_loaded_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.onnx cannot be loaded: "):
        load_onnx(path, EngineOptions())


def test_lists_of_maps_are_refused_with_the_remedy(graph: Graph) -> None:
    node = make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    made = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])], [])
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    made.output.append(helper.make_value_info("y", kind))
    path = graph([], {}, {})
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    path.write_bytes(helper.make_model(made, opset_imports=domains, ir_version=9).SerializeToString())
    with pytest.raises(ModelError, match="zipmap=False"):
        load_onnx(path, EngineOptions())


def test_the_factory_loads_by_name_and_knows_its_engines(graph: Graph) -> None:
    path = identity(graph, "FLOAT")
    executable = load_executable(Variant("fp32", "onnxruntime", path.name), path.parent, EngineOptions())
    assert executable.run({"x": np.ones((1, 2), np.float32)})["y"].tolist() == [[1.0, 1.0]]
    with pytest.raises(InvalidConfiguration, match="no engine 'abacus'; expected one of onnxruntime, "):
        load_executable(Variant("fp32", "abacus", path.name), path.parent, EngineOptions())


MEASURE = """
import os, sys
from pathlib import Path
def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
from setpoint.core import Variant
from setpoint.engines import EngineOptions, load_executable
path = Path(sys.argv[1])
executable = load_executable(Variant("fp32", "onnxruntime", path.name), path.parent, EngineOptions(int(sys.argv[2])))
heavy = sorted({"onnx", "asyncio", "sklearn", "multiprocessing", "ssl"} & set(sys.modules))
print(len(os.listdir("/proc/self/task")), resident_mb(), ",".join(heavy), executable.memory_bytes())
executable.close()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads and pages as Linux shows them")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_worker_has_the_threads_it_was_given_and_is_small(graph: Graph, tmp_path: Path, threads: int) -> None:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "HOME": str(tmp_path)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, str(identity(graph, "FLOAT")), str(threads)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    task_count, resident_mb, heavy, _ = result.stdout.rstrip("\n").split(" ")
    assert int(task_count) == threads, "the library's own threads, such as for telemetry, do not run"
    assert float(resident_mb) < 80
    assert heavy == ""
    assert not (tmp_path / ".cache").exists(), "nothing is kept about the user"
