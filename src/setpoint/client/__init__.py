"""Python client: numpy in, numpy out, errors as the server's own; blocking or on an event loop."""

from setpoint.client.async_client import AsyncClient
from setpoint.client.client import Client
from setpoint.client.operations import ModelInfo
from setpoint.client.retrying import Retries

__all__ = ["AsyncClient", "Client", "ModelInfo", "Retries"]
