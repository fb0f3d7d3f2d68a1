"""Which third-party distributions a user's module needs: recorded when it is packed, compared when it is loaded.

The record is a bundle file in pip's own format, so that a missing or different library is one command away:
``pip install -r setpoint-requirements.txt``. Each line names in a comment what is imported from the distribution,
because that name is often another one (``import PIL`` is ``pillow``).
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

REQUIREMENTS_FILE = "setpoint-requirements.txt"
_LINE = re.compile(r"([A-Za-z0-9._-]+)==(\S+)\s+# import (.+)")


class Requirement(msgspec.Struct, frozen=True, order=True):
    """One distribution.

    Attributes:
        distribution: its name for pip.
        version: installed when the module was packed.
        modules: top-level modules that the user's code imports from it.
    """

    distribution: str
    version: str
    modules: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.distribution}=={self.version}"


def requirements_of(modules: Iterable[str]) -> tuple[Requirement, ...]:
    """The installed distributions that provide top-level modules; the standard library's and ours are left out."""
    providers = importlib.metadata.packages_distributions()
    wanted: dict[str, set[str]] = {}
    for module in modules:
        if module not in sys.stdlib_module_names and module != "setpoint":
            for distribution in providers.get(module, ()):
                wanted.setdefault(distribution, set()).add(module)
    return tuple(
        sorted(
            Requirement(distribution, importlib.metadata.version(distribution), tuple(sorted(found)))
            for distribution, found in wanted.items()
        )
    )


def write_requirements(requirements: tuple[Requirement, ...], folder: Path) -> Path:
    """Write the record into ``folder``; returns its path."""
    lines = [f"{requirement}  # import {', '.join(requirement.modules)}\n" for requirement in requirements]
    path = folder / REQUIREMENTS_FILE
    path.write_text("".join(lines), encoding="utf-8")
    return path


def read_requirements(folder: Path) -> tuple[Requirement, ...]:
    """Read the record of a bundle; empty where it has none."""
    path = folder / REQUIREMENTS_FILE
    if not path.is_file():
        return ()
    matches = filter(None, map(_LINE.fullmatch, path.read_text(encoding="utf-8").splitlines()))
    return tuple(Requirement(match[1], match[2], tuple(match[3].split(", "))) for match in matches)


def differences(requirements: Iterable[Requirement]) -> list[str]:
    """One sentence for each distribution that is missing here or of another version."""
    found = []
    for requirement in requirements:
        try:
            installed = importlib.metadata.version(requirement.distribution)
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{requirement} is not installed: pip install '{requirement}'")
            continue
        if installed != requirement.version:
            found.append(f"packed with {requirement}, {installed} is installed: pip install '{requirement}'")
    return found
