"""Server reflection: what grpcurl and its like ask before they call.

Source: gRPC, ``reflection.proto``, versions 1 and 1alpha.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from setpoint.wire.grpc.messages import files, message_class, parse, pool
from setpoint.wire.grpc.status import INVALID_ARGUMENT, NOT_FOUND


@cache
def services() -> dict[str, tuple[str, ...]]:
    """Every service's full name, with its methods."""
    found: dict[str, tuple[str, ...]] = {}
    for file in map(FileDescriptorProto.FromString, files().values()):
        for service in file.service:
            found[f"{file.package}.{service.name}"] = tuple(method.name for method in service.method)
    return found


def reflect(package: str, body: bytes) -> bytes:
    """Answer one question of a reflection stream.

    Args:
        package: ``grpc.reflection.v1`` or ``grpc.reflection.v1alpha``.
        body: the question.

    Raises:
        InvalidRequest: it is none.
    """
    question = parse(f"{package}.ServerReflectionRequest", body)
    answer = message_class(f"{package}.ServerReflectionResponse")(valid_host=question.host, original_request=question)
    kind = question.WhichOneof("message_request")
    if kind == "list_services":
        for name in services():
            answer.list_services_response.service.add(name=name)
    elif kind == "file_by_filename":
        _put_file(answer, question.file_by_filename)
    elif kind == "file_containing_symbol":
        _put_file(answer, _file_of(question.file_containing_symbol))
    elif kind == "all_extension_numbers_of_type" and _file_of(question.all_extension_numbers_of_type):
        answer.all_extension_numbers_response.base_type_name = question.all_extension_numbers_of_type
    elif kind in ("all_extension_numbers_of_type", "file_containing_extension"):
        _put_error(answer, NOT_FOUND, "no message here has extensions")
    else:
        _put_error(answer, INVALID_ARGUMENT, "the request asks nothing")
    encoded: bytes = answer.SerializeToString()
    return encoded


def _file_of(symbol: str) -> str:
    service, _, method = symbol.rpartition(".")
    if method in services().get(service, ()):
        symbol = service  # not every implementation of the pool finds methods
    try:
        return str(pool().FindFileContainingSymbol(symbol).name)
    except KeyError:
        return ""


def _put_file(answer: Any, name: str) -> None:
    file = files().get(name)
    if file is None:
        _put_error(answer, NOT_FOUND, "no such file or symbol")
    else:
        answer.file_descriptor_response.file_descriptor_proto.append(file)


def _put_error(answer: Any, code: int, message: str) -> None:
    answer.error_response.error_code = code
    answer.error_response.error_message = message
