"""What the node knows of itself: counters, histograms, windows over the last seconds, and what they become.

Pure: the time is given to it. ``model_metrics`` is where requests are counted; ``model_families`` (Prometheus),
``model_report`` (Setpoint's own statistics) and ``inference_totals`` (Triton's) read it.
"""

from setpoint.observe.batches import BatchCounts, BatchSize
from setpoint.observe.cache_counts import CacheCounts
from setpoint.observe.counts import RequestCounts, TenantCounts, Windows
from setpoint.observe.histogram import Buckets, Histogram, Percentiles, merged
from setpoint.observe.inference_totals import DurationTotal, InferenceTotals, inference_totals
from setpoint.observe.loop_lag import LoopLag
from setpoint.observe.model_families import model_families
from setpoint.observe.model_metrics import ModelMetrics
from setpoint.observe.model_report import ModelReport, QueueReport, model_report
from setpoint.observe.prometheus import CONTENT_TYPE, Family, Sample, render
from setpoint.observe.rolling import RollingHistogram

__all__ = [
    "CONTENT_TYPE",
    "BatchCounts",
    "BatchSize",
    "Buckets",
    "CacheCounts",
    "DurationTotal",
    "Family",
    "Histogram",
    "InferenceTotals",
    "LoopLag",
    "ModelMetrics",
    "ModelReport",
    "Percentiles",
    "QueueReport",
    "RequestCounts",
    "RollingHistogram",
    "Sample",
    "TenantCounts",
    "Windows",
    "inference_totals",
    "merged",
    "model_families",
    "model_report",
    "render",
]
