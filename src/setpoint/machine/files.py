"""The thin end: reading what the system tells."""

from __future__ import annotations


def read_text(path: str) -> str | None:
    """The text of a file, or None where it is absent, forbidden, or its process has gone."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None
