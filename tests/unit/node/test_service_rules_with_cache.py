"""The rules of a service hold with a response cache before it, whatever clients, workers and the shared store do."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import settings
from hypothesis.stateful import initialize, invariant, precondition, rule
from scripted import BATCH_ROWS, Call, Scene, Stream, Tensors
from scripted_store import with_store
from test_service_rules import ServiceRules

from setpoint.core import RefusedError, WorkerLost
from setpoint.node.cache import CacheTerms

CONTENTS = 4


class CachedServiceRules(ServiceRules):
    """As before, and many requests are alike."""

    @initialize(
        workers=st.integers(1, 3), brisk=st.booleans(), store=st.booleans(), budget_kib=st.sampled_from([1, 64])
    )
    def begin(self, workers: int, brisk: bool, store: bool, budget_kib: int) -> None:
        limits = {"queue_limit_rows": 40, "request_timeout_s": 5, "run_timeout_s": 2, "load_timeout_s": 4}
        cache = CacheTerms(budget_kib << 10, ttl_s=4)
        self.scene = Scene(workers, brisk=brisk, cache=cache, **limits)
        self.store = with_store(self.scene) if store else None
        self.requests: list[Call | Tensors | Stream] = []
        self.content: list[int] = []
        self.refused = 0

    @rule(
        kind=st.sampled_from(["call", "one", "tensors", "stream"]),
        content=st.integers(0, CONTENTS - 1),
        timeout_s=st.sampled_from([0, 0, 0, 1, 3]),
        tenant=st.sampled_from(["", "", "a"]),
    )
    def submit(self, kind: str, content: int, timeout_s: int, tenant: str) -> None:
        request: Call | Tensors | Stream
        rows = 1 + content * (BATCH_ROWS + 1) // CONTENTS
        if kind == "tensors":
            request = Tensors(np.full((rows, 2), content, np.float32))
        elif kind == "stream":
            request = Stream()
        else:
            request = Call(rows, body=b"%d" % content) if kind == "call" else Call(1, "one", b"%d" % content)
        request.timeout_ns = timeout_s * 1_000_000_000
        request.tenant = tenant
        try:
            self.scene.service.submit(request)
        except RefusedError:
            self.refused += 1
        else:
            self.requests.append(request)
            self.content.append(content)

    @precondition(lambda self: getattr(self, "store", None) is not None)
    @rule(how=st.sampled_from(["answer", "fail", "away", "back"]))
    def shared_store(self, how: str) -> None:
        assert self.store is not None
        if how in ("away", "back"):
            self.store.away = how == "away"
        else:
            getattr(self.store, how)()

    @invariant()
    def every_request_is_in_exactly_one_place(self) -> None:
        if not hasattr(self, "scene"):
            return
        cache = self.scene.service._cache
        assert cache is not None
        held = [request for slot in self.scene.service.slots for request in slot.requests]
        elsewhere = 0
        for request in self.requests:
            assert len(request.ends.said) <= 1
            places = sum(request is other for other in held) + request.waiting + len(request.ends.said)
            assert places <= 1
            if not places and not request.gone:
                elsewhere += 1
                assert request in cache._key_of, "nobody knows of it"
        assert elsewhere == cache.waiting
        for key in cache._flights.keys():  # noqa: SIM118 - no mapping
            flight = cache._flights.get(key)
            assert flight is not None
            runs = flight.runner.waiting or flight.runner in held
            assert runs != flight.looking, "nobody runs, and others wait for it"
        open_requests = {id(request) for request in self.requests if not request.ended or request in held}
        assert {id(request) for request in cache._key_of} <= open_requests, "an ended request is still known"

    @invariant()
    def every_answer_is_right(self) -> None:
        for content, request in zip(getattr(self, "content", []), getattr(self, "requests", []), strict=True):
            for said in request.ends.said:
                if isinstance(said, WorkerLost):
                    assert "tried" in str(said)  # by itself, or by the one that it waited for
                elif isinstance(said, bytes) and isinstance(request, Call):
                    assert said == b"%d" % content
                elif isinstance(said, list):
                    assert said == [[2.0 * content] * 2] * request.rows

    @invariant()
    def every_request_is_counted_once_by_the_cache(self) -> None:
        if hasattr(self, "scene"):
            metrics = self.scene.service.metrics
            counts = metrics.cache
            assert counts is not None
            served = counts.hits + counts.shared_hits + counts.coalesced
            assert served <= metrics.counts.offered
            assert counts.misses >= 0

    def teardown(self) -> None:
        if getattr(self, "store", None) is not None:
            self.store.fail()
            self.store.away = True
        super().teardown()


CachedServiceRules.TestCase.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
TestCachedServiceRules = CachedServiceRules.TestCase
