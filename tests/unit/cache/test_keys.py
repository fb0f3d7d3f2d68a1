"""Equal requests have equal keys; two requests that differ in anything the model sees never share one."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.core import FREE, Endpoint, Lineage, ModelManifest, Signature, TensorSpec, Variant
from setpoint.node.cache.keys import INPUT_LIMIT_BYTES, KeyMaker
from setpoint.worker import CallRequest, Request, StreamRequest, TensorRequest

SIGNATURE = Signature(
    (TensorSpec("a", "FP32", (FREE, FREE)), TensorSpec("b", "BYTES", (FREE,))),
    (TensorSpec("y", "FP32", (FREE, FREE)),),
    batched=True,
)
MANIFEST = ModelManifest(
    endpoints=(Endpoint("infer", (), {}, batch_rows=8, signature=SIGNATURE), Endpoint("call", (), {})),
    variants=(Variant("fp32", "python", "model.py"),),
    lineage=Lineage("python", "sha256:0"),
)


def maker(digest: str = "sha256:1", *, shared: bool = False) -> KeyMaker:
    return KeyMaker(digest, MANIFEST, shared=shared)


def tensors(*arrays: Any, tenant: str = "", endpoint: str = "infer") -> TensorRequest:
    request = TensorRequest(endpoint, 1, (endpoint,), list(arrays))
    request.tenant = tenant
    return request


def call(body: bytes, *, raw: bool = False, endpoint: str = "call", tenant: str = "") -> CallRequest:
    request = CallRequest(endpoint, 1, (endpoint, raw), body, raw=raw)
    request.tenant = tenant
    return request


def texts(elements: list[bytes]) -> np.ndarray[Any, Any]:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array


some_texts = st.lists(st.binary(max_size=6), max_size=5)
floats = st.lists(st.sampled_from([0.0, -0.0, 1.0, 2.5]), max_size=8)
tenants = st.sampled_from(["", "a", "b"])
inputs = st.tuples(floats, some_texts, tenants)


def request_of(given_inputs: tuple[list[float], list[bytes], str]) -> TensorRequest:
    numbers, elements, tenant = given_inputs
    return tensors(np.array([numbers], np.float32), texts(elements), tenant=tenant)


@given(inputs, inputs)
def test_two_requests_share_a_key_exactly_when_they_are_the_same(
    one: tuple[list[float], list[bytes], str], other: tuple[list[float], list[bytes], str]
) -> None:
    def identity(request: tuple[list[float], list[bytes], str]) -> object:
        return np.array(request[0], np.float32).tobytes(), request[1], request[2]  # -0.0 is not 0.0

    same = maker().key(request_of(one)) == maker().key(request_of(other))
    assert same == (identity(one) == identity(other))


@given(some_texts, some_texts)
def test_bytes_elements_cannot_be_cut_elsewhere(one: list[bytes], other: list[bytes]) -> None:
    numbers = np.zeros((1, 1), np.float32)
    same = maker().key(tensors(numbers, texts(one))) == maker().key(tensors(numbers, texts(other)))
    assert same == (one == other)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_the_same_elements_in_another_shape_are_another_request(lengths: list[int]) -> None:
    array = np.zeros(lengths, np.float32)
    reshaped = array.reshape(*lengths, 1)
    assert maker().key(tensors(array, texts([]))) != maker().key(tensors(reshaped, texts([])))


def test_the_same_bytes_of_another_dtype_are_another_request() -> None:
    array = np.zeros(4, np.float32)
    assert maker().key(tensors(array, texts([]))) != maker().key(tensors(array.view(np.int32), texts([])))


def test_how_the_elements_lie_in_memory_does_not_matter() -> None:
    array = np.arange(4_000_000, dtype=np.float32).reshape(2000, 2000)
    small = array[:6, :6]
    for ours in (array, small):
        key = maker().key(tensors(ours, texts([])))
        assert maker().key(tensors(np.asfortranarray(ours), texts([]))) == key
        assert maker().key(tensors(ours.copy(), texts([]))) == key


def test_text_and_its_bytes_are_the_same_to_a_model() -> None:
    numbers = np.zeros((1, 1), np.float32)
    text, encoded = np.array(["ä"], object), texts(["ä".encode()])
    assert maker().key(tensors(numbers, text)) == maker().key(tensors(numbers, encoded))


def test_models_endpoints_and_kinds_of_bodies_are_apart() -> None:
    keys = {
        maker("sha256:1").key(call(b"{}")),
        maker("sha256:2").key(call(b"{}")),
        maker("sha256:1").key(call(b"{}", raw=True)),
        maker("sha256:1").key(call(b"{}", endpoint="infer")),
        maker("sha256:1").key(call(b"{} ")),
    }
    assert len(keys) == 5


def test_tenants_share_answers_only_where_it_was_said() -> None:
    assert maker().key(call(b"{}", tenant="a")) != maker().key(call(b"{}", tenant="b"))
    assert maker().key(call(b"{}", tenant="a")) != maker().key(call(b"{}"))
    together = maker(shared=True)
    assert together.key(call(b"{}", tenant="a")) == together.key(call(b"{}", tenant="b"))
    # A node that shares must not fill, in a store that both use, what one that does not share reads.
    assert together.key(call(b"{}")) != maker().key(call(b"{}"))


@pytest.mark.parametrize(
    "request_without",
    [
        StreamRequest("call", ("call",), b"{}", raw=False),
        call(b" " * (INPUT_LIMIT_BYTES + 1)),
        tensors(np.zeros((1, INPUT_LIMIT_BYTES // 4 + 1), np.float32), texts([])),
        tensors(np.zeros((1, 1), np.float32), texts([b" " * INPUT_LIMIT_BYTES])),
    ],
    ids=["stream", "large body", "large tensor", "large text"],
)
def test_streams_and_large_inputs_have_no_key(request_without: Request) -> None:
    assert maker().key(request_without) is None
