"""The response cache: answers that are known are given again, and identical requests in flight share one run.

Pure: ``keys``, ``entries`` (what is kept), ``flights`` (who waits for whom), ``parcel`` (as bytes), ``breaker``.
The shell: ``front``, which a model's service asks, and ``redis_store``.
"""

from setpoint.node.cache.front import ResponseCache, SharedStore
from setpoint.node.cache.opening import open_cache
from setpoint.node.cache.terms import CacheTerms

__all__ = ["CacheTerms", "ResponseCache", "SharedStore", "open_cache"]
