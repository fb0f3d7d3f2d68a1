"""Manifests and signatures are records that survive being written, and equal ones give equal bytes."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.core import (
    DATATYPES,
    Endpoint,
    InvalidConfiguration,
    Lineage,
    ModelManifest,
    Parameter,
    Signature,
    TensorSpec,
    Variant,
)

names = st.text(min_size=1, max_size=12)
specs = st.builds(
    TensorSpec,
    name=names,
    datatype=st.sampled_from(sorted(DATATYPES)),
    shape=st.lists(st.integers(-1, 2**40), max_size=5).map(tuple),
)
signatures = st.builds(
    Signature,
    inputs=st.lists(specs, max_size=3).map(tuple),
    outputs=st.lists(specs, max_size=3).map(tuple),
    batched=st.booleans(),
)
schemas = st.dictionaries(names, st.one_of(st.integers(-(2**50), 2**50), st.text(), st.lists(st.text())), max_size=3)
endpoints = st.builds(
    Endpoint,
    name=names,
    parameters=st.lists(st.builds(Parameter, names, schemas, st.booleans()), max_size=2).map(tuple),
    result=schemas,
    batch_rows=st.integers(0, 512),
    streams=st.booleans(),
    signature=st.none() | signatures,
    summary=st.text(),
)
manifests = st.builds(
    ModelManifest,
    endpoints=st.lists(endpoints, min_size=1, max_size=3).map(tuple),
    variants=st.lists(st.builds(Variant, names, names, names), min_size=1, max_size=2).map(tuple),
    lineage=st.builds(Lineage, names, names, st.dictionaries(names, names), st.lists(names).map(tuple)),
    schemas=schemas,
)


@given(manifests)
def test_a_manifest_comes_back_as_it_was(manifest: ModelManifest) -> None:
    assert ModelManifest.from_json(manifest.to_json()) == manifest


def manifest_with(tools: dict[str, str]) -> ModelManifest:
    return ModelManifest(
        (Endpoint("predict", (), {}),),
        (Variant("fp32", "onnxruntime", "model.onnx"),),
        Lineage("onnx", "sha256:0", tools),
    )


def test_equal_manifests_give_equal_bytes() -> None:
    one, other = manifest_with({"a": "1", "b": "2"}), manifest_with({"b": "2", "a": "1"})
    assert one.to_json() == other.to_json()


def test_a_later_schema_is_refused() -> None:
    later = msgspec.structs.replace(manifest_with({}), schema_version=99)
    with pytest.raises(InvalidConfiguration, match="schema version 99"):
        ModelManifest.from_json(later.to_json())


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"\xff", b'{"endpoints": []}'])
def test_what_is_no_manifest_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidConfiguration, match="not a Setpoint manifest"):
        ModelManifest.from_json(text)


def test_a_manifest_needs_something_to_run_and_to_ask() -> None:
    with pytest.raises(InvalidConfiguration, match="at least one"):
        ModelManifest((), (Variant("a", "b", "c"),), Lineage("onnx", ""))


def test_v2_reaches_the_first_endpoint_with_a_signature() -> None:
    signature = Signature((), (TensorSpec("y", "FP32", ()),), batched=False)
    plain, tensors = Endpoint("chat", (), {}), Endpoint("predict", (), {}, signature=signature)
    manifest = ModelManifest((plain, tensors), (Variant("a", "python", "m.py"),), Lineage("python", ""))
    assert manifest.tensor_endpoint is tensors
    assert manifest.signature is signature
    assert manifest.endpoint("chat") is plain
    assert manifest.endpoint("nothing") is None


@pytest.mark.parametrize(("datatype", "shape"), [("FP31", ()), ("FP32", (-2,))])
def test_impossible_tensors_are_refused(datatype: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidConfiguration, match="tensor 'x'"):
        TensorSpec("x", datatype, shape)
