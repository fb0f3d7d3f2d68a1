"""What the response cache does for requests, in front of a real queue with scripted workers."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from scripted import Call, Scene, Stream, Tensors
from scripted_store import with_store

from setpoint.core import (
    DeadlineExceeded,
    Draining,
    InternalError,
    InvalidRequest,
    ModelError,
    QueueFull,
    WorkerLost,
)
from setpoint.node.cache import CacheTerms
from setpoint.observe import CacheCounts

S = 1_000_000_000
TERMS = CacheTerms(64 << 10, ttl_s=30)


@pytest.fixture
def scene() -> Iterator[Callable[..., Scene]]:
    scenes: list[Scene] = []

    def make(terms: CacheTerms = TERMS, **options: Any) -> Scene:
        scenes.append(Scene(cache=terms, **options))
        return scenes[-1]

    yield make
    for made in scenes:
        made.close()


def counts_of(stage: Scene) -> CacheCounts:
    counts = stage.service.metrics.cache
    assert counts is not None
    return counts


def call(body: bytes = b"1", timeout_s: float = 0.0, tenant: str = "") -> Call:
    request = Call(body=body)
    request.timeout_ns = int(timeout_s * S)
    request.tenant = tenant
    return request


def busy(stage: Scene) -> Call:
    """Every worker holds something, so that what comes next waits."""
    return stage.submit(call(b"0"))


# --- hits ------------------------------------------------------------------------------------------------------------


def test_a_known_answer_is_given_without_a_worker(scene):
    stage = scene()
    first = stage.submit(call())
    stage.worker.answer()
    second = stage.submit(call())
    assert first.ends.said == second.ends.said == [b"1"]
    assert stage.worker.held == []
    counts = counts_of(stage)
    assert (counts.hits, counts.misses, counts.stored, counts.entries) == (1, 1, 1, 1)
    assert stage.service.metrics.outcomes == {"ok": 2}
    assert stage.service.metrics.batches.count == 1


def test_tensors_come_back_as_they_were_and_cannot_be_changed_by_the_next_batch(scene):
    stage = scene()
    rows = [Tensors(np.full((1 + number, 2), number, np.float32)) for number in range(3)]
    stage.submit(*rows)
    outputs = [2 * np.concatenate([request.inputs[0] for request in stage.worker.held])]
    stage.worker.answer_with(*outputs)
    outputs[0][:] = -1  # the worker's memory, reused
    again = [Tensors(np.full((1 + number, 2), number, np.float32)) for number in range(3)]
    stage.submit(*again)
    assert [request.ends.said for request in again] == [[[[2.0 * n] * 2] * (1 + n)] for n in range(3)]
    assert counts_of(stage).hits == 3


def test_the_variant_that_made_an_answer_is_said_of_it_again(scene):
    stage = scene()
    first = stage.submit(call())
    stage.worker.answer()
    second = stage.submit(call())
    assert second.variant == first.variant == "fp32"
    assert second.run_ns == 0
    assert second.started_ns == second.arrived_ns


def test_a_known_answer_is_given_also_when_no_worker_is_left(scene):
    stage = scene(load_timeout_s=1)
    stage.submit(call())
    stage.worker.answer()
    stage.worker.die()
    request = stage.submit(call())
    assert request.ends.said == [b"1"]


def test_an_answer_is_computed_again_when_it_is_too_old(scene):
    stage = scene()
    stage.submit(call())
    stage.worker.answer()
    stage.pass_s(31)
    assert counts_of(stage).entries == 0
    request = stage.submit(call())
    assert stage.worker.held == [request]
    assert counts_of(stage).expired == 1
    stage.worker.answer()


@pytest.mark.parametrize("shared", [False, True])
def test_another_tenants_answer_is_given_only_where_that_is_allowed(scene, shared):
    stage = scene(CacheTerms(64 << 10, shared=shared))
    stage.submit(call(tenant="a"))
    stage.worker.answer()
    other = stage.submit(call(tenant="b"))
    assert (other.ends.said == [b"1"]) == shared
    if not shared:
        stage.worker.answer()


def test_streams_are_not_cached(scene):
    stage = scene()
    for _ in range(2):
        stream = stage.submit(Stream())
        stage.worker.event(b"1")
        stage.worker.answer()
        assert stream.ends.said == [b"end"]
    assert (counts_of(stage).misses, counts_of(stage).stored) == (0, 0)


def test_an_answer_that_is_too_large_is_not_kept(scene):
    stage = scene(CacheTerms(8 << 10))
    body = b'"%b"' % (b"x" * 2000)
    for _ in range(2):
        request = stage.submit(call(body))
        stage.worker.answer()
        assert request.ends.said == [body]
    assert (counts_of(stage).hits, counts_of(stage).oversize, counts_of(stage).entries) == (0, 2, 0)


# --- identical requests in flight ------------------------------------------------------------------------------------


def test_identical_requests_share_one_run(scene):
    stage = scene()
    requests = [call() for _ in range(5)]
    stage.submit(*requests)
    assert stage.worker.held == requests[:1]
    assert stage.service.in_flight == 5
    stage.worker.answer()
    assert [request.ends.said for request in requests] == [[b"1"]] * 5
    assert (counts_of(stage).coalesced, counts_of(stage).misses) == (4, 1)
    assert stage.service.metrics.batches.rows == 1


@pytest.mark.parametrize("running", [False, True], ids=["while it waits", "while it runs"])
def test_who_leaves_does_not_take_those_along_who_wait_for_the_same(scene, running):
    stage = scene()
    before = None if running else busy(stage)
    leader, follower, last = call(), call(), call()
    stage.submit(leader, follower, last)
    stage.service.cancel(leader)
    stage.service.cancel(last)
    if before is not None:
        stage.worker.answer()
        stage.turn()
        assert stage.worker.held == [follower]
    stage.worker.answer()
    assert follower.ends.said == [b"1"]
    assert leader.ends.said == last.ends.said == []
    assert stage.submit(call()).ends.said == [b"1"], "and the answer is kept"


def test_a_model_that_fails_on_the_inputs_fails_for_all_who_sent_them_once(scene):
    stage = scene()
    requests = [call() for _ in range(3)]
    stage.submit(*requests)
    stage.worker.fail()
    assert all(isinstance(request.ends.error, ModelError) for request in requests)
    assert stage.service.metrics.outcomes == {"model_error": 3}
    again = stage.submit(call())
    assert stage.worker.held == [again], "a failure is not kept"
    stage.worker.answer()


def test_a_refused_body_is_refused_for_all_who_sent_it(scene):
    stage = scene()
    requests = [call() for _ in range(3)]
    stage.submit(*requests)
    stage.worker.answer(refuse=frozenset([0]))
    assert all(isinstance(request.ends.error, InvalidRequest) for request in requests)


def test_what_kills_workers_kills_two_and_not_two_for_each_who_sent_it(scene):
    stage = scene()
    requests = [call() for _ in range(4)]
    stage.submit(*requests)
    for _ in range(2):
        stage.worker.die()
        stage.pass_s(2)
        stage.worker.ready()
        stage.turn()
    assert all(isinstance(request.ends.error, WorkerLost) for request in requests)
    assert stage.worker.held == []


def test_who_is_too_late_leaves_the_run_to_who_is_not(scene):
    stage = scene()
    before = busy(stage)
    leader = stage.submit(call(timeout_s=1))
    follower = stage.submit(call(timeout_s=50))
    stage.pass_s(1.5)
    assert isinstance(leader.ends.error, DeadlineExceeded)
    assert follower.ends.said == []
    stage.worker.answer()
    stage.turn()
    assert stage.worker.held == [follower]
    stage.worker.answer()
    assert (before.ends.said, follower.ends.said) == ([b"0"], [b"1"])


def test_who_waits_for_another_keeps_its_own_deadline(scene):
    stage = scene()
    leader = stage.submit(call(timeout_s=2))
    assert stage.worker.held == [leader]
    follower = stage.submit(call(timeout_s=3))
    stage.pass_s(4)
    assert isinstance(follower.ends.error, DeadlineExceeded)
    assert "identical" in follower.ends.error.message
    stage.worker.answer()
    assert leader.ends.said == [b"1"]


def test_who_is_in_more_haste_does_not_wait_behind_who_is_not(scene):
    stage = scene()
    busy(stage)
    patient = stage.submit(call(timeout_s=50))
    follower = stage.submit(call(timeout_s=55))
    hasty = stage.submit(call(timeout_s=5))
    stage.worker.answer()
    stage.turn()
    assert hasty in stage.worker.held
    stage.worker.answer()
    stage.turn()
    assert hasty.ends.said == patient.ends.said == follower.ends.said == [b"1"]


def test_the_answer_of_who_was_in_haste_serves_all_and_is_kept(scene):
    def one(body: bytes, timeout_s: float) -> Call:
        request = Call(endpoint="one", body=body)
        request.timeout_ns = int(timeout_s * S)
        return request

    stage = scene()
    stage.submit(one(b"0", 0))
    patient, follower, hasty = one(b"1", 50), one(b"1", 55), one(b"1", 5)
    stage.submit(patient, follower, hasty)
    stage.worker.answer()
    stage.turn()
    assert stage.worker.held == [hasty]
    stage.worker.answer()
    assert (hasty.ends.said, follower.ends.said, patient.ends.said) == ([b"1"], [b"1"], [])
    assert stage.submit(one(b"1", 0)).ends.said == [b"1"]
    assert stage.worker.held == [patient]
    stage.worker.answer()
    assert patient.ends.said == [b"1"]


def test_nobody_waits_for_a_request_that_was_refused_at_the_door(scene):
    stage = scene(queue_limit_rows=1)
    busy(stage)
    stage.submit(call(b"1"))
    with pytest.raises(QueueFull):
        stage.submit(call(b"2"))
    for _ in range(2):
        stage.worker.answer()
        stage.turn()
    again = stage.submit(call(b"2"))
    assert stage.worker.held == [again]
    stage.worker.answer()


def test_an_answer_that_one_client_cannot_have_is_given_to_the_others(scene):
    class Picky(Call):
        __slots__ = ()

        def answer(self, json: bytes) -> None:
            raise InvalidRequest("not in this form")

    stage = scene()
    leader, follower = Picky(body=b"1"), call()
    stage.submit(leader, follower)
    stage.worker.answer()
    assert isinstance(leader.ends.error, InvalidRequest)
    assert follower.ends.said == [b"1"]


def test_a_bug_in_writing_one_answer_is_not_the_others(scene):
    class Broken(Call):
        __slots__ = ()

        def answer(self, json: bytes) -> None:
            raise ZeroDivisionError

    stage = scene()
    leader, follower, broken = Broken(body=b"1"), call(), Broken(body=b"1")
    stage.submit(leader, broken, follower)
    stage.worker.answer()
    assert isinstance(leader.ends.error, InternalError)
    assert isinstance(broken.ends.error, InternalError)
    assert follower.ends.said == [b"1"]
    assert len(stage.bugs) == 2
    stage.bugs.clear()


def test_shutting_down_ends_those_who_wait_for_others(scene):
    stage = scene()
    requests = [call() for _ in range(3)]
    stage.submit(*requests)
    stage.service.abandon()
    assert all(isinstance(request.ends.error, Draining) for request in requests)


def test_no_more_wait_for_others_than_may_wait_at_all(scene):
    stage = scene(queue_limit_rows=3)
    busy(stage)
    stage.submit(*(call() for _ in range(4)))
    assert stage.service.in_flight == 5
    assert stage.service.queue_rows == 1
    late = stage.submit(call())
    assert late.waiting, "it waits in the queue, by itself"
    stage.worker.answer()
    stage.turn()
    stage.worker.answer()


# --- a store that nodes share ----------------------------------------------------------------------------------------


def test_an_answer_of_another_node_is_given(scene):
    stage, other = scene(), scene()
    store, others = with_store(stage), with_store(other)
    stage.submit(call())
    store.answer()
    stage.turn()
    stage.worker.answer()
    others.parcels = store.parcels
    requests = [call(), call()]
    other.submit(*requests)
    assert other.service.in_flight == 2
    others.answer()
    assert [request.ends.said for request in requests] == [[b"1"]] * 2
    assert other.worker.held == []
    counts = counts_of(other)
    assert (counts.shared_hits, counts.coalesced, counts.misses, counts.hits) == (1, 1, 0, 0)
    assert other.submit(call()).ends.said == [b"1"], "now it is known here"
    assert others.asked == []


def test_what_the_shared_store_does_not_know_is_computed(scene):
    stage = scene()
    store = with_store(stage)
    requests = [call(), call()]
    stage.submit(*requests)
    assert stage.worker.held == []
    store.answer()
    stage.turn()
    assert stage.worker.held == requests[:1]
    stage.worker.answer()
    assert [request.ends.said for request in requests] == [[b"1"]] * 2


def test_what_the_shared_store_garbled_is_computed(scene):
    stage = scene()
    store = with_store(stage)
    request = stage.submit(call())
    store.parcels[store.asked[0][0]] = b"setpoint answer 1\ngarbage"
    store.answer()
    stage.turn()
    assert stage.worker.held == [request]
    assert counts_of(stage).invalid == 1
    stage.worker.answer()


def test_who_leaves_while_the_shared_store_is_asked_leaves_the_question_to_the_others(scene):
    stage = scene()
    store = with_store(stage)
    leader, follower = call(), call()
    stage.submit(leader, follower)
    stage.service.cancel(leader)
    store.answer()
    stage.turn()
    assert stage.worker.held == [follower]
    stage.worker.answer()
    assert follower.ends.said == [b"1"]


@pytest.mark.parametrize(("largest_bytes", "kept"), [(63, 0), (1 << 20, 1)])
def test_outputs_that_neither_memory_nor_the_store_takes_are_not_copied(scene, largest_bytes, kept):
    stage = scene(CacheTerms(4000))
    store = with_store(stage)
    store.largest_bytes = largest_bytes
    stage.submit(Tensors(np.ones((8, 2), np.float32)))
    store.answer()
    stage.turn()
    stage.worker.answer_with(np.ones((8, 2), np.float32))
    assert len(store.parcels) == kept
    assert (counts_of(stage).oversize, counts_of(stage).entries) == (1, 0)


def test_a_store_that_is_away_is_not_waited_for(scene):
    stage = scene()
    with_store(stage).away = True
    request = stage.submit(call())
    assert stage.worker.held == [request]
    stage.worker.answer()


def test_shutting_down_ends_those_for_whom_the_shared_store_is_asked(scene):
    stage = scene()
    with_store(stage)
    requests = [call(), call()]
    stage.submit(*requests)
    stage.service.abandon()
    assert all(isinstance(request.ends.error, Draining) for request in requests)
