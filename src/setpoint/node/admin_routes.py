"""V2's model repository extension over REST: what there is, load, unload. For whoever holds the admin token.

Source: Triton, ``extension_model_repository``. Bodies may be empty, as its clients send them.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote

import msgspec

from setpoint.core import (
    Forbidden,
    InternalError,
    MethodNotAllowed,
    NotFound,
    SetpointError,
    Unauthenticated,
)
from setpoint.node.fleet import IndexEntry
from setpoint.node.http import Exchange, respond_error
from setpoint.node.router import Routes
from setpoint.wire import decoding

ADMIN_OFF = (
    "the admin API is off: start the node with --admin-token-file FILE, or SETPOINT_ADMIN_TOKEN in its environment"
)
_BASE = "/v2/repository"
_SCHEME = b"bearer "
T = TypeVar("T")


class Repository(Protocol):
    """What these routes ask; the fleet."""

    def index(self) -> list[IndexEntry]:
        """Every model."""
        ...

    async def load(self, name: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Serve a model; what has begun comes to its end, also when whoever asked has left."""
        ...

    async def unload(self, name: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Serve it no more."""
        ...


class _IndexRequest(msgspec.Struct):
    ready: bool = False


class _RepositoryRequest(msgspec.Struct):
    parameters: dict[str, Any] = {}


def check_admin(shown: bytes | None, token: str) -> None:
    """Let pass who shows the admin token.

    Args:
        shown: the ``Authorization`` header; None without one.
        token: the node's; empty where nobody may.

    Raises:
        Unauthenticated: nothing was shown that could be a token.
        Forbidden: the wrong one was, or there is none.
    """
    if not token:
        raise Forbidden(ADMIN_OFF)
    if shown is None or shown[: len(_SCHEME)].lower() != _SCHEME:
        raise Unauthenticated("this needs the node's admin token: send the header Authorization: Bearer TOKEN")
    # In constant time: how long it takes must not tell how much of a guess is right.
    if not hmac.compare_digest(shown[len(_SCHEME) :].strip(), token.encode()):
        raise Forbidden("the admin token is not the node's")


def admin_routes(repository: Repository, token: str, on_bug: Callable[[BaseException], str]) -> Routes:
    """``POST /v2/repository/index`` and ``/v2/repository/models/NAME/load`` and ``/unload``.

    Args:
        repository: what is asked.
        token: that must be shown; empty where nobody may.
        on_bug: logs a bug of ours and returns its reference.
    """
    tasks: set[asyncio.Task[None]] = set()
    return {
        ("POST", f"{_BASE}/index"): partial(_index, repository, token),
        ("POST", f"{_BASE}/models/*"): partial(_change, repository, token, on_bug, tasks),
    }


def _index(repository: Repository, token: str, exchange: Exchange) -> None:
    check_admin(exchange.headers.get(b"authorization"), token)
    request = _decode(exchange.body, _IndexRequest)
    entries = repository.index()
    if request.ready:
        entries = [entry for entry in entries if entry.state == "READY"]
    exchange.respond(200, msgspec.json.encode(entries))


def _change(
    repository: Repository,
    token: str,
    on_bug: Callable[[BaseException], str],
    tasks: set[asyncio.Task[None]],
    exchange: Exchange,
) -> None:
    *_, name, verb = exchange.path.decode("latin-1").removesuffix("/").split("/")
    if exchange.path.count(b"/") != 5 or verb not in ("load", "unload"):
        raise NotFound(f"nothing is served there; expected {_BASE}/models/NAME/load or …/unload")
    if exchange.method != b"POST":
        raise MethodNotAllowed(f"{exchange.method.decode()} is not allowed on {verb}; use POST", ("POST",))
    check_admin(exchange.headers.get(b"authorization"), token)
    parameters = _decode(exchange.body, _RepositoryRequest).parameters
    exchange.body = b""
    change = repository.load if verb == "load" else repository.unload
    task = asyncio.create_task(_answer(change(unquote(name), parameters), on_bug, exchange))
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def _answer(
    change: Coroutine[Any, Any, None], on_bug: Callable[[BaseException], str], exchange: Exchange
) -> None:
    try:
        await change
    except SetpointError as error:
        respond_error(exchange, error)
    except Exception as bug:
        respond_error(exchange, InternalError(f"a bug in Setpoint, logged under {on_bug(bug)}"))
    else:
        exchange.respond(200, b"")


def _decode(body: bytes, kind: type[T]) -> T:
    with decoding("a repository request"):
        return msgspec.json.decode(body or b"{}", type=kind)
