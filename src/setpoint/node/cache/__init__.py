"""The response cache: answers that are known are given again, and identical requests in flight share one run.

Pure: ``keys``, ``entries`` (what is kept), ``flights`` (who waits for whom), ``parcel`` (as bytes), ``breaker``.
The shell: ``front``, which a model's service asks, and ``redis_store``; ``opening`` puts it together.
"""

from setpoint.node.cache.terms import CacheTerms

__all__ = ["CacheTerms"]  # the rest is loaded for models that have a cache
