"""A model's totals since its start, in the terms of Triton's statistics extension; ``wire`` writes them down.

Source: Triton, ``extension_statistics.md``. Success and queue include what the cache answered; rows and batches do not.
"""

from __future__ import annotations

import msgspec

from setpoint.observe.batches import BatchSize
from setpoint.observe.cache_counts import CacheCounts
from setpoint.observe.model_metrics import ModelMetrics


class DurationTotal(msgspec.Struct, frozen=True):
    """How many, and the sum of what they took, in nanoseconds."""

    count: int
    ns: int


class InferenceTotals(msgspec.Struct, frozen=True):
    """Totals of one model.

    Attributes:
        last_inference_ns: end of the last batch on the node's clock; 0 before there was one.
        inference_count: rows that were run.
        execution_count: batches.
        success: answered requests, arrival to answer.
        fail: requests that ended with an error, refused at the door included.
        queue: answered requests, arrival to a worker; all the time of those that shared another one's answer,
            none of those that the cache answered.
        compute_input: answered requests, writing their batch's inputs.
        compute_infer: answered requests, their batch in the engine.
        compute_output: answered requests, the rest: the way to the worker and back, and writing the answer.
        cache_hit: answered by the cache; an identical request that was waited for is none of these.
        cache_miss: looked for in vain.
        batch_sizes: by rows, ascending.
    """

    last_inference_ns: int
    inference_count: int
    execution_count: int
    success: DurationTotal
    fail: DurationTotal
    queue: DurationTotal
    compute_input: DurationTotal
    compute_infer: DurationTotal
    compute_output: DurationTotal
    cache_hit: DurationTotal
    cache_miss: DurationTotal
    batch_sizes: tuple[BatchSize, ...]


def inference_totals(metrics: ModelMetrics) -> InferenceTotals:
    """The totals by now."""
    total, queue, run = (h.all_time() for h in (metrics.total_ns, metrics.queue_ns, metrics.run_ns))
    counts, batches, cache = metrics.counts, metrics.batches, metrics.cache or CacheCounts()
    answered, computed = total.count, run.count
    # Every request took part in all of its batch, as Triton counts. No total may ever fall: clients subtract.
    input_ns = batches.shared_input_ns
    queue_ns = queue.total + cache.coalesced_ns
    # What is left falls where a batch's inputs took long, or its clients left before their answers were counted.
    output_ns = max(batches.told_output_ns, total.total - cache.hit_ns - queue_ns - run.total - input_ns)
    batches.told_output_ns = output_ns
    return InferenceTotals(
        last_inference_ns=batches.last_ns,
        inference_count=batches.rows,
        execution_count=batches.count,
        success=DurationTotal(answered, total.total),
        fail=DurationTotal(sum(counts.refused.values()) + counts.failed + counts.invalid, metrics.failed_ns),
        queue=DurationTotal(answered, queue_ns),
        compute_input=DurationTotal(computed, input_ns),
        compute_infer=DurationTotal(computed, run.total),
        compute_output=DurationTotal(computed, output_ns),
        cache_hit=DurationTotal(cache.hits + cache.shared_hits, cache.hit_ns),
        cache_miss=DurationTotal(cache.misses, cache.miss_ns),
        batch_sizes=tuple(sorted(batches.sizes.values(), key=lambda size: size.rows)),
    )
