"""For every test."""

from hypothesis import settings

# Machines that run tests are shared and small: how long one example takes says nothing about the code.
settings.register_profile("setpoint", deadline=None)
settings.load_profile("setpoint")
