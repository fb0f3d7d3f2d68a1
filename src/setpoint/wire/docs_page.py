"""The page at ``/docs``: one self-contained HTML file that renders ``openapi.json`` and can send requests."""

from __future__ import annotations

import importlib.resources


def docs_page() -> bytes:
    """The page's bytes. It fetches ``openapi.json`` from beside itself and nothing from anywhere else."""
    return importlib.resources.files("setpoint.wire").joinpath("docs_page.html").read_bytes()
