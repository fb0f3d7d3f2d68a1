"""Before a model is served by an objective that limits the loss: was it optimised for that here? If not, it is now.

What was found is a version of the model like any other, so nothing else has to be remembered: the newest version with
the same files, measured on this hardware with these libraries, for an objective that this one lies within, serves.

Optimising runs in a process of its own: this one becomes the node, and holds no converter and no framework.
"""

from __future__ import annotations

import itertools
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from setpoint.cli.config_keys import FirstUse
from setpoint.cli.failures import EXIT_MISUSE
from setpoint.cli.units import format_seconds
from setpoint.core import COMPOSITION_ENGINE, InvalidConfiguration, Objective
from setpoint.machine import engine_fingerprint, on_device
from setpoint.node import ModelConfig
from setpoint.registry import EVIDENCE, Bundle, Registry, digest_of_file

_LOOK_BACK_VERSIONS = 32
_SENTENCES = 2
_EXIT_TERMINATED = 128 + signal.SIGTERM

Say = Callable[[str, str], None]
"""A label and what belongs to it."""


class Evidence(msgspec.Struct, frozen=True):
    """What of a study says whether it still holds; see ``optimize.Study``."""

    objective: str
    floor: float
    promised: bool
    accepted: bool = False
    data_digest: str = ""
    stopped: bool = False


def covers(evidence: Evidence, objective: Objective, data_digest: str, *, accept_made_up: bool) -> bool:
    """Whether what was found then holds for what is asked now. Pure.

    Variants were kept above the floor of then, and batches measured up to the bound of then: so both may be stricter
    now. Other data judge anew.

    Args:
        evidence: of then.
        objective: of now; it limits the loss.
        data_digest: of the data that are given now; empty without.
        accept_made_up: what is said now where there are none.
    """
    drop = objective.drop
    if evidence.stopped or drop is None or 1.0 - drop.bound / 100.0 < evidence.floor - 1e-9:
        return False
    bound_then = Objective.parse(evidence.objective).latency if evidence.objective else None
    bound_now = objective.latency
    if bound_then is not None and (bound_now is None or bound_now.bound_ns > bound_then.bound_ns):
        return False
    if data_digest:
        return evidence.data_digest == data_digest
    return evidence.promised or evidence.accepted == accept_made_up


def measured_here(bundle: Bundle, device: str) -> bool:
    """Whether every variant was measured, and so judged, on this hardware with these versions of its libraries."""
    manifest = bundle.manifest
    measured = {(profile.variant, profile.hardware) for profile in manifest.profiles}
    return all(
        (each.name, on_device(engine_fingerprint(each.engine), device)) in measured for each in manifest.variants
    )


def optimized(model: ModelConfig, source: str, terms: FirstUse, registry: Registry, say: Say, lifeline: int) -> Bundle:
    """The bundle to serve: as it was optimised before, or as it is now, which takes up to the budget.

    Args:
        model: as it would be served; its objective decides.
        source: what the user named.
        terms: what the user said of optimising.
        registry: where versions are found and stored.
        say: told what is done, and what was decided.
        lifeline: a descriptor whose end ends everything; -1 without.

    Raises:
        InvalidConfiguration: data that nothing is to be judged by, or that do not exist.
    """
    bundle, objective = model.bundle, model.objective
    limited = objective is not None and objective.drop is not None
    if terms.data is not None and not terms.data.is_file():
        raise InvalidConfiguration(f"data {terms.data}: expected an .npz file with examples; there is no such file")
    if terms.data is not None and not limited:
        raise InvalidConfiguration(
            'data judges variants, and only an objective that says what may be lost takes any: "p99<=20ms, drop<=1%"'
        )
    if objective is None or not limited or not terms.optimize or model.variant:
        return bundle
    found = _remembered(model, source, objective, terms, registry)
    if found is not None:
        if found.digest != bundle.digest:
            say("optimised", f"before: {found.reference}, with {_names(found)}")
        return found
    if problem := _why_not(bundle, source, terms, model.device):
        say("note", f"{bundle.reference} is served as it is: {problem}")
        return bundle
    if (elsewhere := _judged_elsewhere(model, registry)) is not None:
        again = "they are judged again" if terms.data else "give --data to have them judged again"
        say(
            "note",
            f"variants of {elsewhere.reference} were judged on another processor or with other libraries, where answers"
            f" may differ: {again}",
        )
    judged_by = f"judged by {terms.data.name}" if terms.data else "on made-up rows"
    announcement = (
        f"{bundle.reference} for {objective}, {judged_by}: up to {format_seconds(terms.optimize_budget_s)}, once here;"
        " Ctrl-C serves what is there by then, --no-optimize goes without"
    )
    arguments = _arguments(bundle, objective, terms, model.device)
    record = _run(arguments, lifeline, lambda: say("optimise", announcement))
    if record is None:
        say("note", f"{bundle.reference} could not be optimised and is served as it is")
        return bundle
    first, *others = record["answer"][:_SENTENCES]
    say("chosen" if record["chosen"] else "not held", "; ".join([first, *others]))
    for warning in record["warnings"][:1]:
        say("note", warning)
    stored = registry.resolve(record["stored"])
    say("stored", f"{stored.reference}, with {_names(stored)}; took {record['seconds']:.0f} s")
    return stored


def _judged_elsewhere(model: ModelConfig, registry: Registry) -> Bundle | None:
    """The newest version with the same files that has variants, where those were not measured and judged here."""
    for each in itertools.islice(registry.versions(model.bundle.name), _LOOK_BACK_VERSIONS):
        if each.own_files == model.bundle.own_files and len(each.manifest.variants) > 1:
            return None if measured_here(each, model.device) else each
    return None


def _is_version(source: str, bundle: Bundle) -> bool:
    """Whether the user named this very version, by number, alias or digest: then no other takes its place."""
    return source.startswith((f"{bundle.name}:", f"{bundle.name}@")) and not Path(source).exists()


def _remembered(
    model: ModelConfig, source: str, objective: Objective, terms: FirstUse, registry: Registry
) -> Bundle | None:
    """The newest version with the same files that was optimised here for such an objective, or the one that was named
    if it was."""
    bundle = model.bundle
    data_digest = digest_of_file(terms.data) if terms.data is not None else ""
    most = 0 if _is_version(source, bundle) else _LOOK_BACK_VERSIONS
    for each in (bundle, *itertools.islice(registry.versions(bundle.name), most)):
        same = each.own_files == bundle.own_files and each.manifest.endpoints == bundle.manifest.endpoints
        if not same or not measured_here(each, model.device):
            continue
        evidence = _evidence(registry.folder(each) / EVIDENCE)
        if evidence is None:
            if each.digest == bundle.digest and not data_digest:
                return each  # measured by other means; whoever did it knows why
        elif covers(evidence, objective, data_digest, accept_made_up=terms.accept_made_up):
            return each
    return None


def _evidence(path: Path) -> Evidence | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Evidence)
    except (OSError, msgspec.MsgspecError):
        return None


def _why_not(bundle: Bundle, source: str, terms: FirstUse, device: str) -> str:
    """Why a model is not optimised on its own, or nothing."""
    original = bundle.manifest.variants[0]
    if bundle.manifest.signature is None or original.engine in ("python", COMPOSITION_ENGINE):
        return "variants are made of graphs, not of Python classes and compositions"
    if not original.artifact.endswith(".onnx") and terms.data is None:
        return f"without --data nothing is known that a model of {original.engine} takes"
    if "," in device:
        return f"variants are measured on one device, not on {device}"
    if _is_version(source, bundle):
        return f"this version was asked for by name; setpoint optimize {source} makes another"
    return ""


def _arguments(bundle: Bundle, objective: Objective, terms: FirstUse, device: str) -> list[str]:
    arguments = ["optimize", bundle.reference, "--objective", str(objective), "--device", device]
    arguments += ["--budget", f"{terms.optimize_budget_s:g}s", "--json", "--first-use"]
    arguments += [] if terms.data is None else ["--data", str(terms.data)]
    return arguments + (["--accept-made-up"] if terms.accept_made_up else [])


def _run(arguments: list[str], lifeline: int, announce: Callable[[], None]) -> dict[str, Any] | None:
    """Optimise in another process; it shows its progress itself. None where it failed, which it has told.

    The first Ctrl-C lets it conclude, a second one ends it and us, as SIGTERM and the lifeline's end do at once.
    """
    # It begins with interrupts held back, and lets them in when it knows what to do with one.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "setpoint", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,  # signals reach it through us alone, so each of them once
    ) as child:

        def on_interrupt(*_: object) -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            child.send_signal(signal.SIGINT)

        def on_terminate(*_: object) -> None:
            raise click.exceptions.Exit(_EXIT_TERMINATED)

        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        signal.signal(signal.SIGINT, on_interrupt)
        signal.signal(signal.SIGTERM, on_terminate)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        try:
            announce()
            output = _read(child, lifeline)
            child.wait()
        except BaseException:
            child.terminate()
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    if child.returncode == EXIT_MISUSE:
        raise click.exceptions.Exit(EXIT_MISUSE)
    try:
        record: dict[str, Any] = msgspec.json.decode(output)
    except msgspec.DecodeError:
        return None
    return record


def _read(child: subprocess.Popen[bytes], lifeline: int) -> bytes:
    """All that it writes."""
    assert child.stdout is not None, "started with a pipe"
    descriptor, pieces = child.stdout.fileno(), list[bytes]()
    watched = [descriptor, lifeline] if lifeline >= 0 else [descriptor]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if lifeline in ready and not os.read(lifeline, 1024):
            raise click.exceptions.Exit(0)
        if descriptor in ready:
            piece = os.read(descriptor, 1 << 16)
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)


def _names(bundle: Bundle) -> str:
    return ", ".join(variant.name for variant in bundle.manifest.variants)
