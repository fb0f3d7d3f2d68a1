"""Wire protocols: encode and decode, nothing else. No sockets, no state, no models."""

from setpoint.wire import sse
from setpoint.wire.batch import BatchOutputs
from setpoint.wire.catalogue import catalogue, catalogue_entry
from setpoint.wire.compression import CODINGS, answer_coding, deflate, inflate
from setpoint.wire.docs_page import docs_page
from setpoint.wire.errors import body_of, headers_of, status_of
from setpoint.wire.generate import GenerateCodec, TextEndpoint, generate_error, no_text, text_endpoint
from setpoint.wire.infer_request import InferRequest
from setpoint.wire.json_body import decoding
from setpoint.wire.json_depth import check_depth
from setpoint.wire.json_numbers import has_native_reader
from setpoint.wire.json_tensor import refuse_overflow
from setpoint.wire.metadata import model_metadata, server_metadata
from setpoint.wire.native_form import FORM, file_arguments, read_form
from setpoint.wire.native_json import NativeTensorCodec, check_object, count_rows
from setpoint.wire.openai_embeddings import (
    EmbeddingsRequest,
    ListedModel,
    asked_model,
    decode_embeddings,
    encode_embeddings,
    listed_model,
    model_arguments,
    model_list,
)
from setpoint.wire.openai_errors import UnknownModel
from setpoint.wire.openapi import openapi_document
from setpoint.wire.openapi_examples import example_of, infer_example, nested_example
from setpoint.wire.raw_tensor import Raw
from setpoint.wire.shared_memory import NO_SHARED_MEMORY, SHARED_MEMORY_OFF, Extent, Place, SharedMemory
from setpoint.wire.v2_header import BINARY, JSON_LENGTH, json_length
from setpoint.wire.v2_json import V2Codec
from setpoint.wire.v2_model_config import model_config
from setpoint.wire.v2_statistics import statistics, statistics_entry

__all__ = [
    "BINARY",
    "CODINGS",
    "FORM",
    "JSON_LENGTH",
    "NO_SHARED_MEMORY",
    "SHARED_MEMORY_OFF",
    "BatchOutputs",
    "EmbeddingsRequest",
    "Extent",
    "GenerateCodec",
    "InferRequest",
    "ListedModel",
    "NativeTensorCodec",
    "Place",
    "Raw",
    "SharedMemory",
    "TextEndpoint",
    "UnknownModel",
    "V2Codec",
    "answer_coding",
    "asked_model",
    "body_of",
    "catalogue",
    "catalogue_entry",
    "check_depth",
    "check_object",
    "count_rows",
    "decode_embeddings",
    "decoding",
    "deflate",
    "docs_page",
    "encode_embeddings",
    "example_of",
    "file_arguments",
    "generate_error",
    "has_native_reader",
    "headers_of",
    "infer_example",
    "inflate",
    "json_length",
    "listed_model",
    "model_arguments",
    "model_config",
    "model_list",
    "model_metadata",
    "nested_example",
    "no_text",
    "openapi_document",
    "read_form",
    "refuse_overflow",
    "server_metadata",
    "sse",
    "statistics",
    "statistics_entry",
    "status_of",
    "text_endpoint",
]
