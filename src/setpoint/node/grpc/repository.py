"""The model repository's calls: what there is, load, unload. For whoever holds the admin token, as over REST."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from setpoint.core import InvalidRequest
from setpoint.node.admin_routes import Repository, check_admin
from setpoint.wire import grpc as wire


class RepositoryCalls:
    """``RepositoryIndex``, ``RepositoryModelLoad`` and ``RepositoryModelUnload``."""

    def __init__(self, repository: Repository, token: str) -> None:
        """Nothing is asked yet.

        Args:
            repository: what is asked.
            token: that must be shown as ``authorization: Bearer …``; empty where nobody may.
        """
        self._repository = repository
        self._token = token

    def calls(self) -> dict[str, Callable[[bytes, Any], Awaitable[bytes]]]:
        """By method name of ``GRPCInferenceService``."""
        return {
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }

    async def _index(self, body: bytes, context: Any) -> bytes:
        self._check(context)
        asked = wire.parse("inference.RepositoryIndexRequest", body)
        answer = wire.message_class("inference.RepositoryIndexResponse")()
        for entry in self._repository.index():
            if entry.state == "READY" or not asked.ready:
                answer.models.add(name=entry.name, version=entry.version, state=entry.state, reason=entry.reason)
        encoded: bytes = answer.SerializeToString()
        return encoded

    async def _load(self, body: bytes, context: Any) -> bytes:
        self._check(context)
        name, parameters = _asked("inference.RepositoryModelLoadRequest", body)
        await self._repository.load(name, parameters)
        return b""

    async def _unload(self, body: bytes, context: Any) -> bytes:
        self._check(context)
        name, parameters = _asked("inference.RepositoryModelUnloadRequest", body)
        await self._repository.unload(name, parameters)
        return b""

    def _check(self, context: Any) -> None:
        metadata = dict(context.invocation_metadata())
        shown = metadata.get("authorization")
        check_admin(shown.encode() if isinstance(shown, str) else shown, self._token)


def _asked(message: str, body: bytes) -> tuple[str, dict[str, Any]]:
    asked = wire.parse(message, body)
    # In kserve's own messages the name is field 1, which is Triton's repository.
    name = asked.model_name or asked.repository_name
    if not name:
        raise InvalidRequest("model_name is empty; name a model of the registry")
    return name, {key: wire.value_of(value) for key, value in asked.parameters.items()}
