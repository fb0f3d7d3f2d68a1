"""Setpoint from Python: a node in the background of a notebook, a script or a test."""

from setpoint.embed.service import Service, pack, serve

__all__ = ["Service", "pack", "serve"]
