"""Errors as OpenAI clients read them: ``{"error": {"message", "type", "param", "code"}}``.

Source: OpenAI API reference, "Error codes", and what ``openai-python`` reads (``_exceptions.py``).
"""

from __future__ import annotations

import msgspec

from setpoint.core import InvalidRequest, NotFound, SetpointError

OPENAI_PREFIX = b"/v1/"
"""Whatever goes wrong on a path that begins so is said in this form, also before any route was found."""
_MODELS = b"/v1/models/"
_TOO_MANY_REQUESTS = 429


class InvalidParameter(InvalidRequest):
    """One field of the request is at fault.

    Attributes:
        param: its name.
    """

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class UnknownModel(NotFound):
    """The model that the request names is not served here, or not for this."""

    param = "model"
    code = "model_not_found"


def openai_error_body(error: SetpointError, status: int, path: bytes) -> bytes:
    """The body of an error's answer.

    ``type`` says whose fault it is, in OpenAI's words; ``code`` is ours, and names the leaf of the tree of errors.
    """
    code = "model_not_found" if isinstance(error, NotFound) and path.startswith(_MODELS) else error.kind
    return msgspec.json.encode(
        {
            "error": {
                "message": error.message,
                "type": _type_of(status),
                "param": getattr(error, "param", None),
                "code": getattr(error, "code", code),
            }
        }
    )


def _type_of(status: int) -> str:
    if status == _TOO_MANY_REQUESTS:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"
