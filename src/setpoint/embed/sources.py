"""What can be given in place of a path: an object that is still in memory, written to where it can be packed."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from setpoint.core import InvalidConfiguration
from setpoint.formats import PackOptions, write_function

Source = Any
"""A path or registry reference, an annotated function, or a fitted scikit-learn estimator."""


def materialised(source: Source, folder: Path, options: PackOptions) -> tuple[str, PackOptions, str | None]:
    """Write ``source`` into ``folder`` where it is not on disk already.

    Returns:
        text for ``registry.open_model``, options for it, and a name where the source has one of its own.

    Raises:
        InvalidConfiguration: not a kind of source we know.
    """
    if isinstance(source, str | Path):
        return str(source), options, None
    if inspect.isfunction(source):
        return str(write_function(source, folder)), options, source.__name__.strip("_<>").lower() or "function"
    if hasattr(source, "predict") or hasattr(source, "transform"):
        return _estimator(source, folder), _trusted(options), type(source).__name__.lower()
    raise InvalidConfiguration(
        f"expected a path, a model's name, an annotated function or a fitted estimator, got {type(source).__name__}; "
        "put a setpoint.Model class into a file and give its path"
    )


def _estimator(estimator: Any, folder: Path) -> str:
    import cloudpickle

    path = folder / "estimator.pkl"
    path.write_bytes(cloudpickle.dumps(estimator))
    return str(path)


def _trusted(options: PackOptions) -> PackOptions:
    # The pickle was written a moment ago, from an object of the user's own process.
    return PackOptions(trust=True, entry=options.entry, sample=options.sample)
