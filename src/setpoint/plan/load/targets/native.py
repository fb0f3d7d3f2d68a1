"""Setpoint's own routes, ``/models/NAME/ENDPOINT``: plain JSON, described by the node's OpenAPI document."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import SplitResult

import msgspec

from setpoint.core import InvalidConfiguration
from setpoint.plan.load.targets.asking import ask, try_once
from setpoint.plan.load.targets.data import encode, read_lines, read_npz, slices
from setpoint.plan.load.targets.options import RequestOptions
from setpoint.plan.load.targets.posts import JSON, Posts, anything, make_posts, valid_json

_PATH = re.compile(r"(?P<base>.*)(?P<route>/models/[^/]+/[^/]+)")


def describe(url: SplitResult, options: RequestOptions) -> dict[str, Any] | None:
    """What the server's OpenAPI document says of posting to this path; None where it is not a route of ours."""
    match = _PATH.fullmatch(url.path)
    if match is None:
        return None
    status, body = ask(url, "GET", f"{match['base']}/openapi.json", None, options.headers)
    if status != 200:
        return None
    try:
        operation = msgspec.json.decode(body, type=dict[str, Any])["paths"][match["route"]]["post"]
    except (msgspec.MsgspecError, KeyError, TypeError):
        return None
    return operation if isinstance(operation, dict) else None


def target(url: SplitResult, operation: dict[str, Any], options: RequestOptions) -> Posts:
    """Prepare requests from the user's bodies, or from the route's example.

    Raises:
        SetpointError: there is no example, or the server does not take the requests.
    """
    headers = {"content-type": JSON, **options.headers}
    bodies = _bodies(url, operation, options)
    try_once(url, url.path, bodies[0], headers)
    answers = operation.get("responses", {}).get("200", {}).get("content", {})
    check = valid_json if JSON in answers else anything  # a stream of events is judged by its status
    return make_posts("native JSON", url, url.path, bodies, headers, check)


def _bodies(url: SplitResult, operation: dict[str, Any], options: RequestOptions) -> list[bytes]:
    if options.body is not None:
        return [options.body]
    if options.data is not None and options.data.suffix == ".npz":
        return [encode(arrays) for arrays in slices(read_npz(options.data), options.rows)]
    if options.data is not None:
        return read_lines(options.data)
    try:
        example = operation["requestBody"]["content"][JSON]["example"]
    except KeyError:
        raise InvalidConfiguration(
            f"{url.path} has no example in /openapi.json; give bodies with --data FILE.jsonl or one with --body"
        ) from None
    return [encode(example)]
