"""Python client: numpy in, numpy out, errors as the server's own."""

from setpoint.client.client import Client

__all__ = ["Client"]
