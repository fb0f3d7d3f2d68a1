"""The Python engine: loads a user's ``Model`` class from its bundle and answers requests with it."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable, Generator, Sequence
from pathlib import Path
from typing import Any, get_args

from numpy.typing import NDArray

from setpoint.authoring import (
    Context,
    Contract,
    Image,
    Model,
    ModelFile,
    UserModule,
    Uses,
    contracts,
    declared_files,
    describe,
    require_pillow,
    user_failure,
)
from setpoint.core import Endpoint, InternalError, InvalidConfiguration, NotFound, Signature
from setpoint.engines.base import Arrays, EngineOptions, Executable
from setpoint.engines.devices import DEVICES, preference
from setpoint.engines.python_endpoint import USER_FAILURES, Answer, PythonEndpoint
from setpoint.engines.python_request import Body
from setpoint.machine import rss_bytes


class PythonEngine:
    """Loads Python classes.

    Args:
        worker: index of this worker process among the model's, handed to the user's ``load``.
    """

    name = "python"

    def devices(self) -> tuple[str, ...]:
        """Any: the class is told what was asked for, and its model files are run by engines that look."""
        return DEVICES

    def __init__(self, worker: int = 0) -> None:
        self._worker = worker

    def load(self, artifact: Path, entry: str, options: EngineOptions) -> PythonExecutable:
        """Import ``artifact``, make an instance of its class ``entry`` and call the instance's ``load``.

        Raises:
            ConfigurationError: a library or a declared file is missing; an annotation is not supported.
            MissingExtra: the class takes images and Pillow is not installed.
            ModelError: the user's code failed.
        """
        return PythonExecutable(artifact, entry, options, self._worker)


class PythonExecutable:
    """A loaded model class. Used by one thread at a time, in which no event loop runs.

    Attributes:
        endpoints: what it answers, as its manifest says.
        device: its model files are run on; what was asked for, where it has none.
    """

    endpoints: tuple[Endpoint, ...]
    device: str

    def __init__(self, artifact: Path, entry: str, options: EngineOptions, worker: int) -> None:
        before_bytes = rss_bytes(os.getpid()) or 0
        self._runner: asyncio.Runner | None = None
        self._files: list[Executable] = []
        self._model: Model | None = None
        self._module = UserModule(artifact)
        try:
            model_class = self._module.model_class(entry)
            self.endpoints = describe(model_class)[0]
            found = contracts(model_class)
            if any(map(_takes_images, found)):
                require_pillow()
            wanted = preference(options.device)
            context = Context(self._module.folder, options.threads, worker, wanted)
            self._model = self._instance(model_class, context, options)
            self.device = ", ".join(dict.fromkeys(file.device for file in self._files)) or wanted[0]
            self._endpoints = {
                contract.name: PythonEndpoint(contract, getattr(self._model, contract.attribute), self._finish)
                for contract in found
            }
        except BaseException:
            self._close_all(ask_model=False)
            raise
        self._tensor_endpoint = next((one for one in self._endpoints.values() if one.contract.tensors), None)
        self._memory_bytes = max(0, (rss_bytes(os.getpid()) or 0) - before_bytes)

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Answer tensors with tensors through the first endpoint that has a signature; see ``Executable.run``.

        Raises:
            InvalidRequest: a value does not fit its argument, or the model said so.
            ModelError: the model failed, or its result does not fit its annotation.
        """
        if self._tensor_endpoint is None:
            raise InternalError("this model has no endpoint that tensors suffice for")
        return self._tensor_endpoint.run(inputs)

    def call(self, endpoint: str, bodies: Sequence[Body], raw: bool = False) -> list[Answer]:
        """Answer native JSON requests to one endpoint that does not stream.

        Rows of all valid requests to a batched endpoint run together, at most ``batch_rows`` at a time; where that
        fails, each request runs alone, so that only the culprit fails.

        Args:
            endpoint: its name.
            bodies: one JSON object of arguments per request; views are not kept.
            raw: each body is the bytes argument itself; of a batched endpoint, one row.

        Returns:
            one answer per body, in order. What clients and the model do wrong is in them, never raised.

        Raises:
            NotFound: no such endpoint.
            InternalError: the endpoint streams.
        """
        return self._endpoint(endpoint).call(bodies, raw)

    def stream(self, endpoint: str, body: Body, raw: bool = False) -> Generator[bytes]:
        """Answer a request to an endpoint that streams.

        Returns:
            a generator of JSON documents; closing it closes the user's.

        Raises:
            InvalidRequest: at once if the body does not fit; while iterating if the model says so.
            ModelError: while iterating, when the model fails.
            NotFound: no such endpoint.
            InternalError: the endpoint does not stream.
        """
        return self._endpoint(endpoint).stream(body, raw)

    def memory_bytes(self) -> int:
        """Resident bytes this process grew by while the model was loaded."""
        return self._memory_bytes

    def close(self) -> None:
        """Call the model's ``close``, then free everything.

        Raises:
            ModelError: the model's ``close`` failed; everything else was freed.
        """
        self._close_all(ask_model=True)

    def _endpoint(self, name: str) -> PythonEndpoint:
        found = self._endpoints.get(name)
        if found is None:
            raise NotFound(f"no endpoint {name!r}; there is {', '.join(self._endpoints)}")
        return found

    def _instance(self, model_class: type[Model], context: Context, options: EngineOptions) -> Model:
        name = model_class.__name__
        model: Model = self._user_code(f"making a {name}", model_class)
        for attribute, declaration in declared_files(model_class).items():
            path = context.folder / declaration.path
            if not path.exists():
                raise InvalidConfiguration(f"{name}.{attribute}: {declaration.path} is not in {context.folder}")
            value = self._model_file(declaration.path, path, options) if isinstance(declaration, Uses) else path
            vars(model)[attribute] = value
        self._user_code(f"{name}.load()", lambda: self._finish(model.load(context)))
        return model

    def _model_file(self, name: str, path: Path, options: EngineOptions) -> ModelFile:
        from setpoint.engines import onnxruntime  # only a model that uses a model file pays for its engine

        executable = onnxruntime.load(path, options)
        self._files.append(executable)
        inputs = tuple(tensor.spec for tensor in executable.inputs)
        outputs = tuple(tensor.spec for tensor in executable.outputs)
        return ModelFile(name, Signature(inputs, outputs, batched=False), executable)

    def _user_code(self, doing: str, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except USER_FAILURES as error:
            raise user_failure(error, self._module.folder, doing) from error

    def _finish(self, result: Any) -> Any:
        if not inspect.isawaitable(result):
            return result
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(_awaited(result))

    def _close_all(self, *, ask_model: bool) -> None:
        try:
            if ask_model and (model := self._model) is not None:
                self._user_code(f"{type(model).__name__}.close()", lambda: self._finish(model.close()))
        finally:
            self._model, self._endpoints = None, {}
            while self._files:
                self._files.pop().close()
            if self._runner is not None:
                self._runner.close()
                self._runner = None
            self._module.close()


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result


def _takes_images(contract: Contract) -> bool:
    return any(_mentions(argument.annotation, Image) for argument in contract.arguments)


def _mentions(annotation: Any, wanted: type) -> bool:
    return annotation is wanted or any(_mentions(part, wanted) for part in get_args(annotation))


__all__ = ["Answer", "PythonEngine", "PythonExecutable"]
