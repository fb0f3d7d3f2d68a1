"""Setpoint: give it a trained model and an objective; it measures, deploys and holds the objective."""

__version__ = "0.1.0"
