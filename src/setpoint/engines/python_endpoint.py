"""One endpoint of a loaded model: request bodies in, answers out; tensors in, tensors out; events one by one.

Whose fault a failure is, is decided here: a body that does not fit and ``InvalidInput`` are the client's; anything else
that the user's code raises or returns is the model's. The client sees a line about it; the traceback goes to the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.authoring import ENCODER, Contract, InvalidInput, brief
from setpoint.core import InternalError, InvalidRequest, ModelError, SetpointError, TensorSpec
from setpoint.engines.base import Arrays
from setpoint.engines.python_batch import Columns, joined, row_count, run_rows, split
from setpoint.engines.python_request import Body, RequestReader

_log = logging.getLogger("setpoint.engines.python")
# What the user's code may raise without ending the worker: sys.exit() in a model must not.
USER_FAILURES = (Exception, SystemExit, asyncio.CancelledError)
Finish = Callable[[Any], Any]
"""Runs an awaitable to its end, and returns anything else as it is."""


class Answer(msgspec.Struct, frozen=True):
    """What came of one request.

    Attributes:
        ok: whether there is a result.
        body: the result as one JSON document.
        kind: where not ok, whose fault it was: ``invalid_request`` or ``model_error``.
        message: where not ok, a line for the client.
    """

    ok: bool
    body: bytes = b""
    kind: str = ""
    message: str = ""


class PythonEndpoint:
    """An endpoint bound to a model instance. Used by one thread at a time.

    Args:
        contract: of the endpoint.
        method: bound to the instance.
        finish: runs what an ``async`` method returns.
    """

    def __init__(self, contract: Contract, method: Callable[..., Any], finish: Finish) -> None:
        self.contract = contract
        self._finish = finish
        self._batch_rows = contract.batch_rows
        self._read = RequestReader(contract)
        self._method = _positional(contract, method)

    def call(self, bodies: Sequence[Body], raw: bool) -> list[Answer]:
        """Answer each body; see ``PythonExecutable.call``."""
        if self.contract.streams:
            raise InternalError(f"endpoint {self.contract.name!r} streams")
        if self.contract.batch_rows:
            return self._call_batched(bodies, raw)
        return [self._call_alone(body, raw) for body in bodies]

    def stream(self, body: Body, raw: bool) -> Generator[bytes]:
        """Validate, then return the events; see ``PythonExecutable.stream``."""
        if not self.contract.streams:
            raise InternalError(f"endpoint {self.contract.name!r} does not stream")
        return self._events(self._read.arguments(body, raw))

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Answer tensors with tensors; see ``Executable.run``."""
        tensors = self.contract.tensors
        if tensors is None:
            raise InternalError(f"endpoint {self.contract.name!r} has no tensor form")
        if missing := tensors.inputs.keys() - inputs.keys():
            raise InvalidRequest(f"missing input {min(missing)!r}")
        arguments = tuple(
            tensors.inputs[argument.name].to_argument(inputs[argument.name])
            if argument.name in tensors.inputs
            else argument.default
            for argument in self.contract.arguments
        )
        if self.contract.batch_rows and not row_count(self._read.names, arguments):
            return {column.spec.name: _no_rows(column.spec) for column in tensors.outputs}
        try:
            parts = tensors.apart(self._result(arguments))
            return {
                column.spec.name: column.to_array(part) for column, part in zip(tensors.outputs, parts, strict=True)
            }
        except USER_FAILURES as error:
            raise self._failure(error) from error

    def _call_alone(self, body: Body, raw: bool) -> Answer:
        try:
            arguments = self._read.arguments(body, raw)
            return Answer(True, ENCODER.encode(self._finish(self._method(arguments))))
        except USER_FAILURES as error:
            return _answer(self._failure(error))

    def _call_batched(self, bodies: Sequence[Body], raw: bool) -> list[Answer]:
        refused: list[Answer | None] = []
        requests: list[Columns] = []
        row_counts: list[int] = []
        for body in bodies:
            try:
                columns = self._read.arguments(body, raw)
                row_counts.append(row_count(self._read.names, columns))
                requests.append(columns)
                refused.append(None)
            except InvalidRequest as error:
                refused.append(_answer(error))
        answers = iter(self._answers(requests, row_counts) if requests else ())
        return [next(answers) if refusal is None else refusal for refusal in refused]

    def _answers(self, requests: list[Columns], row_counts: list[int]) -> list[Answer]:
        try:
            results = self._result(joined(requests))
        except USER_FAILURES as error:
            if len(requests) == 1:
                return [_answer(self._failure(error))]
            # One of them spoilt it for all: alone, only the culprit fails.
            return [self._answers([request], [rows])[0] for request, rows in zip(requests, row_counts, strict=True)]
        if len(requests) == 1:
            return [self._encoded(results)]
        return [self._encoded(result) for result in split(results, row_counts)]

    def _encoded(self, result: Any) -> Answer:
        try:
            return Answer(True, ENCODER.encode(result))
        except USER_FAILURES as error:
            return _answer(self._failure(error))

    def _result(self, arguments: tuple[Any, ...]) -> Any:
        if self._batch_rows:
            return run_rows(self._run_method, arguments, self._batch_rows)
        return self._run_method(arguments)

    def _run_method(self, arguments: tuple[Any, ...]) -> Any:
        return self._finish(self._method(arguments))

    def _events(self, arguments: tuple[Any, ...]) -> Generator[bytes]:
        items: Any = None
        try:
            try:
                items = self._finish(self._method(arguments))
                iterator = self._stepwise(items) if hasattr(items, "__aiter__") else iter(items)
            except USER_FAILURES as error:
                raise self._failure(error) from error
            while True:
                try:
                    event = ENCODER.encode(next(iterator))
                except StopIteration:
                    return
                except USER_FAILURES as error:
                    raise self._failure(error) from error
                yield event
        finally:
            self._close(items)

    def _stepwise(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        while True:
            try:
                yield self._finish(anext(items))
            except StopAsyncIteration:
                return

    def _close(self, items: Any) -> None:
        close = getattr(items, "close", None) or getattr(items, "aclose", None)
        if close is None:
            return
        try:
            self._finish(close())
        except USER_FAILURES as error:
            _log.error("closing the stream of %s.%s", self.contract.owner, self.contract.name, exc_info=error)

    def _failure(self, error: BaseException) -> SetpointError:
        where = f"{self.contract.owner}.{self.contract.name}"
        if isinstance(error, InvalidInput):
            return InvalidRequest(str(error) or f"{where} refused the input")
        if isinstance(error, InvalidRequest):
            return error
        _log.error("%s failed", where, exc_info=error)
        return ModelError(f"{where}: {error}" if isinstance(error, ModelError) else f"{where} failed: {brief(error)}")


def _positional(contract: Contract, method: Callable[..., Any]) -> Callable[[tuple[Any, ...]], Any]:
    first_keyword = sum(not argument.keyword_only for argument in contract.arguments)
    keywords = tuple(argument.name for argument in contract.arguments[first_keyword:])
    if not keywords:
        return lambda arguments: method(*arguments)
    return lambda arguments: method(
        *arguments[:first_keyword], **dict(zip(keywords, arguments[first_keyword:], strict=True))
    )


def _answer(error: SetpointError) -> Answer:
    return Answer(False, b"", error.kind, error.message)


def _no_rows(spec: TensorSpec) -> NDArray[Any]:
    return np.empty((0, *(max(length, 0) for length in spec.shape[1:])), spec.type.dtype)
