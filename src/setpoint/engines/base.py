"""The interface of an engine: load an artifact, run named arrays through it, say what it holds, close."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
from numpy.typing import NDArray

from setpoint.engines.devices import CPU

Arrays = Mapping[str, NDArray[Any]]


class EngineOptions(msgspec.Struct, frozen=True):
    """How an engine may use the machine. Everything is explicit; no engine default is relied on.

    Attributes:
        threads: threads of one run, at least 1.
        spin: whether idle engine threads may busy-wait *during* a run. They never spin between runs: that would take a
            core from the node.
        memory_arena: keep freed activations for the next run (faster) instead of returning them (smaller).
        device: to compute on, or several by preference, such as ``cuda,cpu``.
    """

    threads: int = 1
    spin: bool = True
    memory_arena: bool = True
    device: str = CPU


class Executable(Protocol):
    """A loaded variant. Used by one thread at a time.

    Attributes:
        device: it computes on.
    """

    device: str

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Compute every output.

        Args:
            inputs: one array per input name, of the signature's dtype and shape. BYTES inputs are ``object`` arrays of
                ``bytes``. The arrays may be views of shared memory: they are valid during the call only.

        Returns:
            one array per output name; the engine owns nothing of them after the call.

        Raises:
            ModelError: the engine or the model failed.
        """
        ...

    def memory_bytes(self) -> int:
        """Bytes the loaded variant holds, as far as the engine can tell; 0 when it cannot."""
        ...

    def close(self) -> None:
        """Free what was loaded. Running afterwards is a programming error."""
        ...


class Engine(Protocol):
    """Loads artifacts of one kind."""

    name: str

    def devices(self) -> tuple[str, ...]:
        """Devices that it can compute on here, as far as it can tell without using one."""
        ...

    def load(self, artifact: Path, entry: str, options: EngineOptions) -> Executable:
        """Load ``artifact`` (a file inside the bundle's folder).

        Raises:
            InvalidConfiguration: no device that was asked for is here.
            ModelError: the artifact cannot be loaded.
            MissingExtra: the engine's library is not installed.
        """
        ...


def one_line(error: BaseException, most_characters: int = 200) -> str:
    """What a library said, for a message of one line, cut where it is long; the error's type where it said nothing."""
    text = " ".join(str(error).split())
    return (text[:most_characters] + "…" if len(text) > most_characters else text) or type(error).__name__
