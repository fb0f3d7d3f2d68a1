"""Completion of what is in the registry."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from setpoint.core import SetpointError
from setpoint.registry import Bundle, Registry


def complete_reference(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names first; versions and aliases once a colon is there."""
    candidates: dict[str, str] = {}
    for bundle in _bundles():
        if ":" not in incomplete:
            candidates[bundle.name] = ""
            continue
        candidates[bundle.reference] = ", ".join(bundle.aliases)
        candidates |= {f"{bundle.name}:{alias}": bundle.reference for alias in bundle.aliases}
    return [CompletionItem(text, help=note or None) for text, note in candidates.items() if text.startswith(incomplete)]


def complete_reference_or_path(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names from the registry, and files by the shell's own means where no name fits."""
    names = [] if "/" in incomplete else complete_reference(ctx, parameter, incomplete)
    return names or [CompletionItem(incomplete, type="file")]


def _bundles() -> list[Bundle]:
    try:
        return Registry.default().list()
    except (SetpointError, OSError):
        return []  # a person pressing TAB is not to be told about a damaged registry in the middle of a line
