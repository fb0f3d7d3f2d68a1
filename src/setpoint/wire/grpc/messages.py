"""The messages, in a descriptor pool of their own.

In protobuf's default pool a name can stand once in a process, and tritonclient, kserve and mlserver each register
``inference.*`` there. What stands here touches nothing of theirs: a process that embeds a node may import any of them.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from setpoint.core import InvalidRequest
from setpoint.wire.grpc.proto_text import file_of

INFERENCE = "inference"
HEALTH = "grpc.health.v1"
REFLECTION = "grpc.reflection.v1"
REFLECTION_ALPHA = "grpc.reflection.v1alpha"


@cache
def files() -> dict[str, bytes]:
    """Every file by the name that reflection shows, as a serialised ``FileDescriptorProto``."""
    folder = resources.files("setpoint.wire.grpc")
    texts = {name: (folder / f"{name}.proto").read_text() for name in ("inference", "health", "reflection")}
    reflection = texts["reflection"]
    named = {
        "inference.proto": texts["inference"],
        "grpc/health/v1/health.proto": texts["health"],
        "grpc/reflection/v1/reflection.proto": reflection,
        "grpc/reflection/v1alpha/reflection.proto": reflection.replace(REFLECTION, REFLECTION_ALPHA),
    }
    return {name: file_of(text, name).SerializeToString() for name, text in named.items()}


@cache
def pool() -> DescriptorPool:
    """Ours alone."""
    private = DescriptorPool()
    for file in files().values():
        private.AddSerializedFile(file)
    return private


@cache
def message_class(name: str) -> Any:
    """The class of a message, by its full name: ``inference.ModelInferRequest``."""
    return GetMessageClass(pool().FindMessageTypeByName(name))


def parse(name: str, message: bytes) -> Any:
    """Read a message.

    Raises:
        InvalidRequest: these bytes are no such message.
    """
    try:
        return message_class(name).FromString(message)
    except (DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"not an {name} message: {error}") from error


def from_json(name: str, json: bytes, parent: str = "") -> Message:
    """A message of what the REST routes answer, so that both say the same.

    Args:
        name: the message's full name.
        json: an object with the message's field names.
        parent: the field to put it into, where REST answers without that outer object.
    """
    text = b'{"%b":%b}' % (parent.encode(), json) if parent else json
    message: Message = json_format.Parse(text, message_class(name)(), descriptor_pool=pool())
    return message
