"""The first bytes of a file, by which formats tell it."""

from __future__ import annotations

from pathlib import Path

HEAD_BYTES = 4096
"""Enough for any mark, and for the head of a text."""


def first_bytes(source: Path, count: int = HEAD_BYTES) -> bytes:
    """The first bytes of a file, at most ``count``; none of a folder, or of what is not there."""
    if not source.is_file():
        return b""
    with source.open("rb") as file:
        return file.read(count)
