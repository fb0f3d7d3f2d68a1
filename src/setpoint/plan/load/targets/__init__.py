"""What can be asked, found by the URL and by what is there. One file for each protocol.

A new protocol is a file with a function that returns a ``transport.Target``, and its line in ``find_target``; one that
is not HTTP/1.1 brings its own ``transport.Transport``.
"""

from __future__ import annotations

from setpoint.core import InvalidConfiguration
from setpoint.plan.load.targets import native, openai, plain, v2_binary, v2_grpc, v2_json
from setpoint.plan.load.targets.asking import split
from setpoint.plan.load.targets.options import RequestOptions
from setpoint.plan.load.transport import Target

__all__ = ["RequestOptions", "find_target"]


def find_target(url: str, options: RequestOptions) -> Target:
    """Look at the URL, ask the server what it needs, prepare the requests and send one on trial.

    Raises:
        InvalidConfiguration: the URL or the data cannot be used.
        InvalidRequest: the server does not take the requests.
        NotReady: nothing answers.
    """
    parts = split(url)
    if v2_grpc.recognises(parts):
        return v2_grpc.target(parts, options)
    if v2_json.recognises(parts):
        return v2_binary.target(parts, options) if options.wire == "binary" else v2_json.target(parts, options)
    if options.wire != "json":
        raise InvalidConfiguration(f"--wire {options.wire} goes with …/v2/models/NAME, got {url!r}")
    if openai.recognises(parts):
        return openai.target(parts, options)
    if (operation := native.describe(parts, options)) is not None:
        return native.target(parts, operation, options)
    return plain.target(parts, options)
