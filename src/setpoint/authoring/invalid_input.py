"""The error a model raises when what it was sent makes no sense to it."""

from __future__ import annotations

from setpoint.core import InvalidRequest


class InvalidInput(InvalidRequest):
    """Raise it in an endpoint when the request is at fault: the client gets 400 and your message.

    Any other exception is answered 500 and counted as the model's failure.
    """
