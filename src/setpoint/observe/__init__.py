"""What the node knows of itself: counters, histograms, and the Prometheus text they become."""

from setpoint.observe.histogram import Histogram
from setpoint.observe.model_metrics import ModelMetrics
from setpoint.observe.prometheus import CONTENT_TYPE, Family, Sample, render

__all__ = ["CONTENT_TYPE", "Family", "Histogram", "ModelMetrics", "Sample", "render"]
