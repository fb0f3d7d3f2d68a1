"""Our messages beside tritonclient's, in one process: no clash, and the same numbers for the same fields."""

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, EnumDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

from setpoint.wire import grpc as ours

ours.pool()
import tritonclient.grpc as triton  # noqa: E402 - behind ours, and its own calls still work
from tritonclient.grpc import service_pb2  # noqa: E402

theirs = descriptor_pool.Default()
compared = 0


def names_of(package: str, messages: list[DescriptorProto]) -> list[str]:
    found = []
    for message in messages:
        name = f"{package}.{message.name}"
        found += [name, *names_of(name, list(message.nested_type))]
    return found


def same_enum(one: EnumDescriptor, other: EnumDescriptor) -> None:
    assert {value.name: value.number for value in one.values} == {value.name: value.number for value in other.values}


def same_message(one: Descriptor, other: Descriptor) -> None:
    global compared
    for field in one.fields:
        their = other.fields_by_name[field.name]
        assert (field.number, field.type, field.is_repeated) == (their.number, their.type, their.is_repeated), (
            field.full_name
        )
        assert bool(field.containing_oneof) == bool(their.containing_oneof), field.full_name
        if field.message_type:
            assert field.message_type.full_name == their.message_type.full_name
        if field.enum_type:
            same_enum(field.enum_type, their.enum_type)
        compared += 1


file = FileDescriptorProto.FromString(ours.files()["inference.proto"])
for name in names_of("inference", list(file.message_type)):
    same_message(ours.pool().FindMessageTypeByName(name), theirs.FindMessageTypeByName(name))
service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
for method in file.service[0].method:
    their = service.methods_by_name[method.name]
    assert (method.input_type, method.output_type) == (
        f".{their.input_type.full_name}",
        f".{their.output_type.full_name}",
    )
    assert (method.client_streaming, method.server_streaming) == (their.client_streaming, their.server_streaming)

request = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[b"1"])
read = ours.message_class("inference.ModelInferRequest").FromString(request.SerializeToString())
assert type(read) is not type(request)
assert read.raw_input_contents[0] == b"1"
assert triton.InferInput("x", [1], "FP32").name() == "x"
print(compared)  # noqa: T201 - how many fields were compared is the test's to judge
