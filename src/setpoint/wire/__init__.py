"""Wire protocols: encode and decode, nothing else. No sockets, no state, no models."""

from setpoint.wire import sse
from setpoint.wire.batch import BatchOutputs
from setpoint.wire.docs_page import docs_page
from setpoint.wire.errors import body_of, headers_of, status_of
from setpoint.wire.json_tensor import refuse_overflow
from setpoint.wire.metadata import model_metadata, server_metadata
from setpoint.wire.native_json import NativeTensorCodec, check_object, count_rows
from setpoint.wire.openapi import openapi_document
from setpoint.wire.openapi_examples import example_of, infer_example, nested_example
from setpoint.wire.v2_json import InferRequest, V2Codec

__all__ = [
    "BatchOutputs",
    "InferRequest",
    "NativeTensorCodec",
    "V2Codec",
    "body_of",
    "check_object",
    "count_rows",
    "docs_page",
    "example_of",
    "headers_of",
    "infer_example",
    "model_metadata",
    "nested_example",
    "openapi_document",
    "refuse_overflow",
    "server_metadata",
    "sse",
    "status_of",
]
