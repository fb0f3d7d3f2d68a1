"""What a user writes: a typed Python class that becomes a service. Exported as ``import setpoint as sp``."""

from setpoint.authoring.audio import Audio
from setpoint.authoring.codec import ENCODER, decoder
from setpoint.authoring.columns import Column
from setpoint.authoring.contract import REQUIRED, Argument, Contract, TensorContract, contracts, describe
from setpoint.authoring.files import BundleFile, ModelFile, Uses, declared_files, file, uses
from setpoint.authoring.invalid_input import InvalidInput
from setpoint.authoring.media import Image, require_pillow
from setpoint.authoring.model import Context, Model, endpoint, model_from_function
from setpoint.authoring.module import UserModule, brief, user_failure
from setpoint.authoring.pipeline import FUSED_OUTPUTS, RESAMPLINGS, ImageSteps, Pipeline, TextSteps, read_pipeline
from setpoint.authoring.pipeline_model import PipelineModel
from setpoint.authoring.pipeline_steps import Tokens, pixels, raw_pixels
from setpoint.authoring.requirements import REQUIREMENTS_FILE, Requirement, requirements_of, write_requirements
from setpoint.authoring.table import TableColumn, TableModel, TableShape, graph_inputs, named_answers
from setpoint.authoring.table import ask as ask_pipeline
from setpoint.authoring.table import graph_name as table_graph_name
from setpoint.authoring.tensor import Tensor

__all__ = [
    "ENCODER",
    "FUSED_OUTPUTS",
    "REQUIRED",
    "REQUIREMENTS_FILE",
    "RESAMPLINGS",
    "Argument",
    "Audio",
    "BundleFile",
    "Column",
    "Context",
    "Contract",
    "Image",
    "ImageSteps",
    "InvalidInput",
    "Model",
    "ModelFile",
    "Pipeline",
    "PipelineModel",
    "Requirement",
    "TableColumn",
    "TableModel",
    "TableShape",
    "Tensor",
    "TensorContract",
    "TextSteps",
    "Tokens",
    "UserModule",
    "Uses",
    "ask_pipeline",
    "brief",
    "contracts",
    "declared_files",
    "decoder",
    "describe",
    "endpoint",
    "file",
    "graph_inputs",
    "model_from_function",
    "named_answers",
    "pixels",
    "raw_pixels",
    "read_pipeline",
    "require_pillow",
    "requirements_of",
    "table_graph_name",
    "user_failure",
    "uses",
    "write_requirements",
]
