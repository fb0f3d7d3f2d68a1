"""What a user writes: a class derived from ``Model`` whose ``endpoint`` methods are what clients call."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec

from setpoint.core import TASKS, InvalidConfiguration

_MARK = "__setpoint_endpoint__"
_ROUTE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
F = TypeVar("F", bound=Callable[..., Any])


class Context(msgspec.Struct, frozen=True):
    """What a model may know about where it runs.

    Attributes:
        folder: the bundle's files, read-only.
        threads: how many threads one request may use; set it for libraries that have thread pools of their own.
        worker: index of this worker process among the model's, from 0.
        devices: to compute on, such as ``cuda``, the preferred one first. Files that ``uses`` declares are on one of
            them already; a library of the model's own is the model's business.
    """

    folder: Path
    threads: int = 1
    worker: int = 0
    devices: tuple[str, ...] = ("cpu",)


class Model:
    """Base class of a served Python model.

    A worker makes one instance (no arguments), fills in what ``uses`` and ``file`` declare, calls ``load`` once, then
    the endpoints one at a time from one thread, and ``close`` at the end.
    """

    def load(self, ctx: Context) -> Any:
        """Prepare whatever needs time: read a vocabulary, build a tokenizer. May be ``async``."""

    def close(self) -> Any:
        """Give back whatever the process's end would not. May be ``async``."""


class EndpointMark(msgspec.Struct, frozen=True):
    """What the ``endpoint`` decorator was told."""

    name: str
    batch_rows: int
    task: str = ""
    dimensions: tuple[int, ...] = ()


@overload
def endpoint(function: F, /) -> F: ...
@overload
def endpoint(
    *, batch: int = 0, name: str | None = None, task: str = "", dimensions: Sequence[int] = ()
) -> Callable[[F], F]: ...
def endpoint(
    function: Any = None,
    /,
    *,
    batch: int = 0,
    name: str | None = None,
    task: str = "",
    dimensions: Sequence[int] = (),
) -> Any:
    """Make a method callable by clients at ``POST /models/MODEL/NAME``.

    Its annotations are its contract: they validate requests and describe the route. It may be ``async``; one that
    returns ``Iterator[T]`` streams.

    Args:
        function: the method, where the decorator stands without parentheses.
        batch: above 0, rows of several requests run together, at most this many at once; every argument and the result
            is then a ``list`` with one element per row.
        name: last part of the route; the method's name without it.
        task: ``"embed"`` where the method turns texts into vectors: OpenAI clients reach it then (``/v1/embeddings``).
        dimensions: of ``"embed"``: shorter lengths that clients may ask for; only for models trained to be cut.

    Raises:
        InvalidConfiguration: an impossible batch, name or task.
    """
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 0:
        raise InvalidConfiguration(f"endpoint(batch={batch!r}): expected 0 (no batching) or the most rows of one batch")
    if task and task not in TASKS:
        raise InvalidConfiguration(f"endpoint(task={task!r}): expected one of {', '.join(map(repr, TASKS))}")
    if dimensions and not task:
        raise InvalidConfiguration('endpoint(dimensions=...) goes with task="embed"')

    def mark(target: Any) -> Any:
        chosen = name if name is not None else getattr(target, "__name__", "")
        if not _ROUTE_NAME.fullmatch(chosen):
            raise InvalidConfiguration(f"endpoint name {chosen!r}: expected letters, digits, '_' and '-'")
        setattr(target, _MARK, EndpointMark(chosen, batch, task, tuple(dimensions)))
        return target

    return mark if function is None else mark(function)


class MarkedMethod(msgspec.Struct, frozen=True):
    """An endpoint as found on a class: the attribute to call on an instance, and what to read annotations from."""

    attribute: str
    mark: EndpointMark
    function: Any
    takes_self: bool


def marked_methods(model_class: type) -> tuple[MarkedMethod, ...]:
    """The endpoints of a class and its bases, in the order of their definition; an overriding class wins.

    Raises:
        InvalidConfiguration: there is none, or two share a name.
    """
    found = _marked(model_class)
    names = [method.mark.name for method in found]
    if not names:
        raise InvalidConfiguration(
            f"{model_class.__name__} has no endpoint: put @sp.endpoint before the methods that clients may call"
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidConfiguration(f"{model_class.__name__} has two endpoints named {twice[0]!r}")
    return found


def has_endpoints(model_class: type) -> bool:
    """Whether the class is a model to serve and not only a base of some."""
    return bool(_marked(model_class))


def _marked(model_class: type) -> tuple[MarkedMethod, ...]:
    found: dict[str, MarkedMethod] = {}
    for owner in reversed(model_class.__mro__):
        for attribute, value in vars(owner).items():
            mark = getattr(value, _MARK, None) if not isinstance(value, type) else None
            if isinstance(mark, EndpointMark):
                function = getattr(model_class, attribute)
                found[attribute] = MarkedMethod(attribute, mark, function, inspect.isfunction(value))
            else:
                found.pop(attribute, None)
    return tuple(found.values())


def model_from_function(function: Callable[..., Any]) -> type[Model]:
    """Wrap an annotated function into a model with one endpoint, named after it (``predict`` for a lambda).

    ``@sp.endpoint(batch=64)`` on the function is honoured.

    Raises:
        InvalidConfiguration: it is not a plain function.
    """
    if not inspect.isfunction(function):
        raise InvalidConfiguration(f"expected a function with annotations, got {type(function).__name__}")
    attribute = function.__name__ if function.__name__.isidentifier() else "predict"
    if attribute in ("load", "close"):
        attribute = "predict"
    given = getattr(function, _MARK, None)
    # The mark sits on the staticmethod: the user's function is not ours to change.
    mark = given or EndpointMark(attribute, 0)
    method = endpoint(batch=mark.batch_rows, name=mark.name, task=mark.task, dimensions=mark.dimensions)(
        staticmethod(function)
    )
    body = {attribute: method, "__doc__": function.__doc__, "__module__": function.__module__}
    return type("".join(part.capitalize() for part in attribute.split("_")) or "Predict", (Model,), body)
