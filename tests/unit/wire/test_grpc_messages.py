"""The messages: private to us, readable by others, and taken apart without protobuf where tensors lie in them."""

import json
from contextlib import suppress

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from setpoint.core import (
    ConfigurationError,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    ModelError,
    NotFound,
    QueueFull,
    RefusedError,
    RequestError,
    RequestTooLarge,
    SetpointError,
)
from setpoint.wire import status_of
from setpoint.wire.grpc import code_of, files, from_json, message_class, parse, reflect, services, trailers_of
from setpoint.wire.grpc.envelope import split
from setpoint.wire.grpc.reflection import INVALID_ARGUMENT, NOT_FOUND

RAW = 7


def leaves(root: type[SetpointError]) -> list[type[SetpointError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in leaves(child))]


def test_the_default_pool_does_not_know_our_messages() -> None:
    message_class("inference.ModelInferRequest")
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("inference.ModelInferRequest")


@given(st.lists(st.binary(max_size=300), max_size=4), st.text(max_size=5), st.booleans())
def test_a_message_is_split_from_its_tensors(tensors: list[bytes], name: str, scattered: bool) -> None:
    cls = message_class("inference.ModelInferRequest")
    name = name.encode("utf-8", "replace").decode()
    rest = cls(model_name=name, id="7").SerializeToString()
    parts = [cls(raw_input_contents=[tensor]).SerializeToString() for tensor in tensors]
    body = b"".join([*parts[:2], rest, *parts[2:]] if scattered else [rest, *parts])
    message, raw = split(body, RAW)
    assert list(map(bytes, raw)) == tensors == list(cls.FromString(body).raw_input_contents)
    assert message == rest


@given(st.binary(max_size=60))
def test_splitting_agrees_with_protobuf_on_any_bytes(body: bytes) -> None:
    cls = message_class("inference.ModelInferRequest")
    try:
        message, raw = split(body, RAW)
    except InvalidRequest:
        return  # groups, which proto3 does not have, or torn bytes
    try:
        whole = cls.FromString(body)
    except DecodeError:
        with suppress(DecodeError):
            cls.FromString(message)
        return
    assert list(whole.raw_input_contents) == [bytes(tensor) for tensor in raw]
    whole.ClearField("raw_input_contents")
    assert cls.FromString(message) == whole


@pytest.mark.parametrize("field", [b"\x3a\x00", b"\x80\x01\x00", b"\x2a\x00"], ids=["tensor", "unknown", "input"])
def test_a_message_of_countless_fields_is_refused_before_they_are_walked(field: bytes) -> None:
    with pytest.raises(RequestTooLarge, match="more than 16384"):
        split(field * 1_000_000, RAW)
    split(field * 16_384, RAW)


def test_bytes_of_another_message_are_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match=r"inference\.ModelReadyRequest"):
        parse("inference.ModelReadyRequest", b"\x0a\x05a")


def test_what_rest_says_fits_the_message() -> None:
    document = json.dumps({"name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]}).encode()
    message = from_json("inference.ModelMetadataResponse", document)
    assert list(message.inputs[0].shape) == [-1, 4]  # type: ignore[attr-defined]


# --- reflection -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["grpc.reflection.v1", "grpc.reflection.v1alpha"])
def test_reflection_lists_services_and_gives_their_files(package: str) -> None:
    question, answer = (message_class(f"{package}.ServerReflection{kind}") for kind in ("Request", "Response"))

    def asked(**fields: str) -> object:
        return answer.FromString(reflect(package, question(**fields).SerializeToString()))

    listed = asked(list_services="*")
    assert {each.name for each in listed.list_services_response.service} == set(services())  # type: ignore[attr-defined]
    for name in services():
        found = asked(file_containing_symbol=name)
        (file,) = found.file_descriptor_response.file_descriptor_proto  # type: ignore[attr-defined]
        described = FileDescriptorProto.FromString(file)
        assert name.startswith(f"{described.package}.")
        named = asked(file_by_filename=described.name)
        assert named.file_descriptor_response.file_descriptor_proto[0] == file  # type: ignore[attr-defined]
    method = asked(file_containing_symbol="inference.GRPCInferenceService.ModelInfer")
    assert method.file_descriptor_response.file_descriptor_proto  # type: ignore[attr-defined]
    for nothing in ({"file_containing_symbol": "a.B"}, {"file_by_filename": "a.proto"}):
        assert asked(**nothing).error_response.error_code == NOT_FOUND  # type: ignore[attr-defined]
    assert asked().error_response.error_code == INVALID_ARGUMENT  # type: ignore[attr-defined]


def test_the_files_stand_on_their_own() -> None:
    for file in files().values():
        descriptor_pool.DescriptorPool().AddSerializedFile(file)


def test_the_inference_service_has_every_call() -> None:
    assert {"ServerLive", "ModelInfer", "ModelStreamInfer", "ModelStatistics", "RepositoryModelLoad"} <= set(
        services()["inference.GRPCInferenceService"]
    )


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", leaves(SetpointError), ids=lambda kind: kind.kind)
def test_every_error_has_a_code_that_agrees_with_its_http_status(kind: type[SetpointError]) -> None:
    error = kind.__new__(kind, "no")
    if isinstance(error, RefusedError):
        error = kind("no")
    elif isinstance(error, RequestTooLarge):
        error.header = False
    code = code_of(error)
    if issubclass(kind, RequestError):
        assert code in (3, 4, 5, 7, 8, 12, 16)
        assert status_of(error) < 500
    elif issubclass(kind, RefusedError):
        assert code in (4, 8, 14)
    elif issubclass(kind, ConfigurationError):
        assert code in (5, 9)
    else:
        assert code == 13


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequest("no"), 3),
        (NotFound("no"), 5),
        (RequestTooLarge("no"), 8),
        (QueueFull("no"), 14),
        (DeadlineExceeded("no"), 4),
        (ModelError("no"), 13),
        (InternalError("no"), 13),
    ],
    ids=lambda value: getattr(value, "kind", value),
)
def test_clients_get_the_codes_they_know(error: SetpointError, code: int) -> None:
    assert code_of(error) == code


def test_a_refusal_says_when_to_come_back() -> None:
    assert dict(trailers_of(QueueFull("no", 0.25))) == {"setpoint-error": "queue_full", "retry-after-ms": "250"}
    assert "retry-after-ms" not in dict(trailers_of(NotFound("no")))
