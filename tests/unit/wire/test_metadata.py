"""What a node says of itself and of its models, as V2 clients read it."""

import json

from setpoint.core import FREE, Endpoint, Lineage, ModelManifest, Signature, TensorSpec, Variant
from setpoint.wire import model_metadata, server_metadata

SIGNATURE = Signature((TensorSpec("X", "FP32", (FREE, 4)),), (TensorSpec("y", "INT64", (FREE,)),), True)


def manifest(signature: Signature | None, engine: str) -> ModelManifest:
    endpoint = Endpoint("predict", (), {}, signature=signature)
    return ModelManifest((endpoint,), (Variant("fp32", engine, "model"),), Lineage("onnx", "sha256:0"))


def test_the_server_lists_only_extensions_it_has() -> None:
    extensions = [
        "binary_tensor_data",
        "classification",
        "generate",
        "model_configuration",
        "parameters",
        "schedule_policy",
        "statistics",
    ]
    assert json.loads(server_metadata("1.2.3")) == {"name": "setpoint", "version": "1.2.3", "extensions": extensions}
    optional = {"model_repository", "system_shared_memory"}
    all_of_them = json.loads(server_metadata("1.2.3", repository=True, shared_memory=True))["extensions"]
    assert all_of_them == sorted({*extensions, *optional})


def test_a_model_of_tensors() -> None:
    assert json.loads(model_metadata("iris", ["3"], manifest(SIGNATURE, "onnxruntime"))) == {
        "name": "iris",
        "versions": ["3"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "INT64", "shape": [-1]}],
    }


def test_a_model_that_tensors_cannot_describe_has_none() -> None:
    document = json.loads(model_metadata("words", ["1"], manifest(None, "python")))
    assert (document["platform"], document["inputs"], document["outputs"]) == ("setpoint_python", [], [])
