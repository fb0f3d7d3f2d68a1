"""gRPC: the Open Inference Protocol, health and reflection as bytes. Imported only where a node listens for it.

``setpoint.wire`` itself does not import it: protobuf comes with an extra.
"""

from setpoint.wire.grpc.inference import (
    FINAL_RESPONSE,
    GrpcCodec,
    InferMessage,
    read_infer,
    stream_error,
    stream_response,
    value_of,
)
from setpoint.wire.grpc.messages import files, from_json, message_class, parse, pool
from setpoint.wire.grpc.reflection import reflect, services
from setpoint.wire.grpc.status import code_of, trailers_of

__all__ = [
    "FINAL_RESPONSE",
    "GrpcCodec",
    "InferMessage",
    "code_of",
    "files",
    "from_json",
    "message_class",
    "parse",
    "pool",
    "read_infer",
    "reflect",
    "services",
    "stream_error",
    "stream_response",
    "trailers_of",
    "value_of",
]
