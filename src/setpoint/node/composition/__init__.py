"""Compositions: a request's way through the steps of several models, each with its own scheduler and workers."""

from setpoint.node.composition.berth import CompositionBerth

__all__ = ["CompositionBerth"]
