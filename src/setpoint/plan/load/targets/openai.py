"""OpenAI's embeddings, ``…/v1/embeddings``: any server that has them."""

from __future__ import annotations

from urllib.parse import SplitResult

import msgspec
import numpy as np

from setpoint.core import InvalidConfiguration
from setpoint.plan.load.targets.asking import ask, try_once
from setpoint.plan.load.targets.data import MADE_UP, encode, read_lines
from setpoint.plan.load.targets.options import RequestOptions
from setpoint.plan.load.targets.posts import JSON, Posts, make_posts

_SUFFIX = "/v1/embeddings"
_WORDS = ("the", "model", "answers", "a", "question", "about", "rain", "bread", "and", "seven", "small", "ships")


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class _Embeddings(msgspec.Struct):
    data: list[msgspec.Raw]


_decode_embeddings = msgspec.json.Decoder(_Embeddings).decode


def recognises(url: SplitResult) -> bool:
    """Whether the path is that of the embeddings."""
    return url.path.rstrip("/").endswith(_SUFFIX)


def target(url: SplitResult, options: RequestOptions) -> Posts:
    """Prepare requests: the user's bodies, or made-up texts for the first model that the server names.

    Raises:
        SetpointError: there is no model, or the server does not take the requests.
    """
    path = url.path.rstrip("/")
    headers = {"content-type": JSON, **options.headers}
    if options.body is not None:
        bodies = [options.body]
    elif options.data is not None:
        bodies = read_lines(options.data)
    else:
        bodies = _made_up(_first_model(url, path, options), options)
    try_once(url, path, bodies[0], headers)
    return make_posts("OpenAI embeddings", url, path, bodies, headers, check)


def check(body: bytes) -> str | None:
    """What is wrong with an answer."""
    try:
        found = _decode_embeddings(body).data
    except msgspec.MsgspecError as error:
        return f"not an OpenAI list of embeddings: {error}"
    return None if found else "a list of embeddings without any"


def _first_model(url: SplitResult, path: str, options: RequestOptions) -> str:
    models_path = path.removesuffix("/embeddings") + "/models"
    status, body = ask(url, "GET", models_path, None, options.headers)
    try:
        models = msgspec.json.decode(body, type=_Models).data if status == 200 else []
    except msgspec.MsgspecError:
        models = []
    if not models:
        raise InvalidConfiguration(
            f"GET {models_path} names no model (status {status}); give whole bodies with --body or --data FILE.jsonl"
        )
    return models[0].id


def _made_up(model: str, options: RequestOptions) -> list[bytes]:
    random = np.random.default_rng(options.seed)
    bodies = []
    for _ in range(MADE_UP):
        texts = [" ".join(random.choice(_WORDS, options.length)) for _ in range(options.rows)]
        bodies.append(encode({"model": model, "input": texts, "encoding_format": "base64"}))
    return bodies
