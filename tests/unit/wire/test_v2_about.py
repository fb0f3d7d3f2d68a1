"""Configuration and statistics in Triton's terms, as clients read them."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from strategies import models

from setpoint.core import DATATYPES, FREE, Endpoint, Lineage, ModelManifest, Signature, TensorSpec, Variant
from setpoint.wire import model_config, model_metadata, statistics, statistics_entry


def manifest(signature: Signature | None, batch_rows: int = 0) -> ModelManifest:
    endpoint = Endpoint("infer", (), {}, batch_rows=batch_rows, signature=signature)
    return ModelManifest((endpoint,), (Variant("fp32", "onnxruntime", "model.onnx"),), Lineage("onnx", "sha256:0"))


def config(signature: Signature | None, batch_rows: int = 0) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        model_config("m", manifest(signature, batch_rows), 2, 4096, device="cpu", cached=True)
    )
    return document


@given(models(list(DATATYPES)))
def test_metadata_has_the_batch_axis_exactly_where_the_configuration_has_not(
    model: tuple[Signature, list[Any]],
) -> None:
    """perf_analyzer takes the first axis off a shape when ``max_batch_size`` is above 0, and not otherwise."""
    signature, _ = model
    described = config(signature)
    metadata = json.loads(model_metadata("m", ["1"], manifest(signature)))
    assert (described["max_batch_size"] > 0) == signature.batched
    for kind in ("input", "output"):
        for tensor, known in zip(described[kind], metadata[f"{kind}s"], strict=True):
            assert tensor["name"] == known["name"]
            batch = [FREE] if signature.batched else []
            assert batch + tensor["dims"] == known["shape"]
            assert tensor["data_type"].removeprefix("TYPE_").replace("STRING", "BYTES") == known["datatype"]


def test_what_clients_look_for_is_there() -> None:
    described = config(Signature((TensorSpec("x", "FP32", (FREE, 4)),), (), True))
    assert described["max_batch_size"] == 4096
    assert described["model_transaction_policy"] == {"decoupled": False}
    assert described["response_cache"] == {"enable": True}
    assert described["instance_group"][0]["count"] == 2
    assert described["input"][0].keys() >= {"is_shape_tensor", "optional", "allow_ragged_batch"}
    assert not {"sequence_batching", "ensemble_scheduling"} & described.keys()


def test_a_stated_batch_size_is_the_largest() -> None:
    assert config(Signature((TensorSpec("x", "FP32", (FREE,)),), (), True), batch_rows=8)["max_batch_size"] == 8


def test_a_model_without_tensors_has_a_configuration() -> None:
    described = config(None)
    assert (described["input"], described["output"], described["max_batch_size"]) == ([], [], 0)


@dataclass
class Duration:
    count: int = 0
    ns: int = 0


@dataclass
class Batch:
    rows: int = 2
    count: int = 3
    input_ns: int = 4
    run_ns: int = 5
    output_ns: int = 6


class Totals:
    inference_count = 6
    execution_count = 3
    batch_sizes = (Batch(),)
    success = Duration(7, 8)
    fail = queue = compute_input = compute_infer = compute_output = cache_hit = cache_miss = Duration()


def test_statistics_have_every_key() -> None:
    """perf_analyzer reads them without asking, and ends with a crash where one is missing."""
    (entry,) = json.loads(statistics([statistics_entry("m", "1", Totals(), 9)]))["model_stats"]
    assert entry["last_inference"] == 9
    assert entry["inference_stats"].keys() == {
        "success",
        "fail",
        "queue",
        "compute_input",
        "compute_infer",
        "compute_output",
        "cache_hit",
        "cache_miss",
    }
    assert entry["inference_stats"]["success"] == {"count": 7, "ns": 8}
    assert entry["batch_stats"] == [
        {
            "batch_size": 2,
            "compute_input": {"count": 3, "ns": 4},
            "compute_infer": {"count": 3, "ns": 5},
            "compute_output": {"count": 3, "ns": 6},
        }
    ]
    assert entry.keys() >= {"name", "version", "inference_count", "execution_count", "response_stats", "memory_usage"}


@pytest.mark.parametrize(("device", "kind"), [("cpu", "KIND_CPU"), ("cuda", "KIND_GPU")])
def test_the_configuration_says_on_which_device_a_model_is(device: str, kind: str) -> None:
    document = json.loads(model_config("m", manifest(None), 2, 4096, device=device, cached=False))
    assert [group["kind"] for group in document["instance_group"]] == [kind]
    assert document["parameters"] == {"device": {"string_value": device}}
