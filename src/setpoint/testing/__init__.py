"""Shipped twins of what a test should not wait for or depend on."""

from setpoint.testing.clock import SimulatedClock

__all__ = ["SimulatedClock"]
