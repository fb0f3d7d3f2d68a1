"""A line that says that long work goes on, where a person is watching."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Show ``what`` and the seconds it takes on stderr while the block runs; nothing where stderr is no terminal."""
    with telling(what):
        yield


@contextlib.contextmanager
def telling(what: str) -> Iterator[Callable[[str], None]]:
    """The same for work that has steps: the block is given a function that says which one goes on."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda text: progress.update(task, description=text)
