"""What ``doctor`` looks at. Each check looks at the real thing and says what to do where it is missing."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from setpoint import __version__
from setpoint.cli.units import format_bytes
from setpoint.core import MIB, SetpointError
from setpoint.engines import DEVICES, engine, engine_names
from setpoint.machine import Machine
from setpoint.registry import Registry
from setpoint.wire import has_native_reader

OK, MISSING, BROKEN = "ok", "missing", "broken"

EXTRAS = {
    "sklearn": "scikit-learn estimators and pipelines (.skops, .pkl, .joblib)",
    "grpc": "serving over gRPC (--grpc-port)",
    "redis": "a response cache that nodes share (--cache-url)",
    "xgboost": "XGBoost models (.json, .ubj)",
    "lightgbm": "LightGBM models (.txt)",
    "catboost": "CatBoost models (.cbm)",
    "optimize": "variants with weights of 4 and 8 bits (setpoint optimize)",
    "openvino": "variants that OpenVINO runs (setpoint optimize)",
    "litert": "LiteRT (TensorFlow Lite) models (.tflite)",
    "tensorflow": "Keras (.keras, .h5) and TensorFlow SavedModels",
    "text": "pipelines of texts: Hugging Face folders, pipeline.json",
    "torch": "PyTorch: exported programs (.pt2), TorchScript, Python files that build a module",
    "images": "sp.Image: decoding JPEG, PNG and WebP in a Python class",
    "audio": "sp.Audio: decoding FLAC, OGG and WAV of floats in a Python class; WAV of integers needs nothing",
    "examples": "the examples of the source tree",
}
"""What each optional extra is for; a test compares with pyproject.toml."""

_ENGINE_MODULES = {"litert": "ai_edge_litert"}
"""What an engine imports, where that is not its own name."""

SHARED_MEMORY_BYTES = 64 * MIB
"""Docker's default; less than that is soon full of batches."""

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+).*?(?:extra == ['\"]([a-z0-9-]+)['\"])?$")


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        about: what it is.
        status: ``ok``; ``missing`` when only what needs it does not work; ``broken`` when nothing does.
        found: what was seen.
        remedy: what to do; empty when ok.
    """

    about: str
    status: str
    found: str
    remedy: str = ""


def parse_requirements(requirements: Iterable[str]) -> dict[str, list[str]]:
    """Distribution names by extra, from the ``Requires-Dist`` rows of our own metadata; ``""`` holds required ones."""
    by_extra: dict[str, list[str]] = {}
    for row in requirements:
        if match := _REQUIREMENT.match(row.strip()):
            by_extra.setdefault(match[2] or "", []).append(match[1])
    return by_extra


def check_versions() -> list[Check]:
    """Setpoint, Python and the system."""
    python = f"{platform.python_version()} ({sys.executable})"
    return [
        Check("setpoint", OK, __version__),
        Check("python", OK, python),
        Check("system", OK, platform.platform()),
    ]


def check_machine(machine: Machine) -> list[Check]:
    """Processor, cores and memory as far as we may use them."""
    quota = "" if machine.cpu_quota_cores is None else f", quota of {machine.cpu_quota_cores:g} cores"
    return [
        Check("cpu", OK, f"{machine.cpu.model} ({machine.cpu.architecture})"),
        Check("cpu features", OK, " ".join(machine.cpu.features) or "none that inference engines use"),
        Check("cores", OK, f"{machine.cores} usable of {machine.cores_online}{quota}"),
        Check(
            "memory",
            OK,
            f"{format_bytes(machine.memory_available_bytes)} available of {format_bytes(machine.memory_bytes)}",
        ),
    ]


def check_shared_memory(folder: Path = Path("/dev/shm")) -> list[Check]:  # noqa: S108  # that is where it is
    """Where batches cross from the node to its workers; containers often have little of it."""
    if not folder.is_dir():
        return []
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes >= SHARED_MEMORY_BYTES:
        return [Check("shared memory", OK, f"{format_bytes(free_bytes)} free")]
    return [
        Check(
            "shared memory",
            MISSING,
            f"only {format_bytes(free_bytes)} free in {folder}",
            "large batches will be refused; in a container give more: docker run --shm-size=1g",
        )
    ]


def check_libraries() -> list[Check]:
    """Every required library is imported; every extra is looked for."""
    by_extra = parse_requirements(metadata.requires("setpoint") or ())
    modules = _modules_by_distribution()
    required = [_check_import(name, modules) for name in by_extra.get("", [])]
    return required + [_check_extra(extra, names) for extra, names in by_extra.items() if extra]


def check_json_reader() -> list[Check]:
    """What reads large JSON lists of numbers."""
    about = "JSON numbers"
    if has_native_reader():
        return [Check(about, OK, "native reader")]
    remedy = (
        "for half the time of large JSON tensors: install Setpoint again where there is a C compiler (gcc or clang)"
    )
    return [Check(about, MISSING, "simdjson; the native reader was not built", remedy)]


def _modules_by_distribution() -> dict[str, str]:
    """Distribution name, normalised → a public module it installs."""
    modules: dict[str, str] = {}
    for module, distributions in metadata.packages_distributions().items():
        for distribution in distributions:
            if not module.startswith("_"):
                modules.setdefault(_normal(distribution), module)
    return modules


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _check_import(name: str, modules: dict[str, str]) -> Check:
    remedy = "install Setpoint again: pip install --force-reinstall setpoint"
    module = modules.get(_normal(name))
    if module is None:
        return Check(name, BROKEN, "not installed", remedy)
    try:
        importlib.import_module(module)
    except Exception as error:  # a library may fail in any way it likes; all of them are worth telling
        return Check(name, BROKEN, f"cannot be imported: {error}".partition("\n")[0], remedy)
    return Check(name, OK, metadata.version(name))


def _check_extra(extra: str, names: list[str]) -> Check:
    about = f"[{extra}]"
    versions: dict[str, str | None] = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    found = ", ".join(f"{name} {version or 'not installed'}" for name, version in versions.items())
    if None in versions.values():
        return Check(about, MISSING, found, f"for {EXTRAS[extra]}: pip install 'setpoint[{extra}]'")
    return Check(about, OK, found)


def check_engines() -> list[Check]:
    """Each engine's library is really loaded."""
    providers = metadata.packages_distributions()  # once: it reads what every package installed
    return [_check_engine(name, providers.get(_ENGINE_MODULES.get(name, name), [])) for name in engine_names()]


def _check_engine(name: str, providers: Sequence[str]) -> Check:
    about = f"engine {name}"
    try:
        devices = engine(name).devices()
    except SetpointError as error:
        return Check(about, MISSING, error.message, "install what it names, or do without this engine")
    except Exception as error:  # the library itself failed to load
        return Check(about, BROKEN, f"cannot be loaded: {error}".partition("\n")[0], "install Setpoint again")
    # Asked by module: xgboost may come from xgboost-cpu. The Python engine's version is Python's.
    version = metadata.version(providers[0]) if providers else platform.python_version()
    return Check(about, OK, f"{version} on {'any device' if devices == DEVICES else ', '.join(devices)}")


def check_registry(registry: Registry) -> list[Check]:
    """Where bundles lie, whether they can be read, and whether more can be added."""
    about = "registry"
    try:
        count = len(registry.list())
    except (SetpointError, OSError) as error:
        return [
            Check(about, BROKEN, f"{registry.root}: {error}", "move the folder away, or set SETPOINT_HOME to another")
        ]
    writable = _nearest_existing(registry.root)
    if not os.access(writable, os.W_OK):
        return [
            Check(
                about, BROKEN, f"{registry.root} cannot be written", f"change who owns {writable}, or set SETPOINT_HOME"
            )
        ]
    free = format_bytes(shutil.disk_usage(writable).free)
    return [Check(about, OK, f"{registry.root}: {count} bundle{'s' * (count != 1)}, {free} free on its disk")]


def _nearest_existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


def as_record(checks: list[Check], machine: Machine) -> dict[str, Any]:
    """What ``doctor --json`` prints."""
    return {"ok": all(check.status != BROKEN for check in checks), "machine": machine, "checks": checks}
