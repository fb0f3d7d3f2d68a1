"""What a model's service does with requests when workers answer, fail, die and hang. No process, no waiting."""

import errno
import gc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from scripted import BATCH_ROWS, Call, Scene, Stream, Tensors

from setpoint.core import (
    DeadlineExceeded,
    Draining,
    InvalidRequest,
    ModelError,
    NotReady,
    QueueFull,
    SetpointError,
    WorkerLost,
)


@pytest.fixture
def scene() -> Iterator[Callable[..., Scene]]:
    scenes: list[Scene] = []

    def make(*arguments: int, **options: float) -> Scene:
        scenes.append(Scene(*arguments, **options))  # type: ignore[arg-type]
        return scenes[-1]

    yield make
    for made in scenes:
        made.close()


def bodies(count: int) -> list[Call]:
    return [Call(body=b"%d" % number) for number in range(count)]


# --- batches ---------------------------------------------------------------------------------------------------------


def test_what_arrives_in_one_turn_shares_a_batch(scene):
    stage = scene()
    requests = bodies(5)
    stage.submit(*requests)
    assert stage.worker.held == requests
    stage.worker.answer()
    assert [request.ends.said for request in requests] == [[b"%d" % number] for number in range(5)]


def test_a_batch_has_at_most_the_endpoints_rows_and_a_larger_request_is_one_alone(scene):
    stage = scene()
    large = Call(rows=3 * BATCH_ROWS)
    requests = [Call(rows=5), Call(rows=3), Call(rows=1), large, Call(rows=1)]
    stage.submit(*requests)
    batches = []
    while stage.worker.held:
        batches.append(stage.worker.held)
        stage.worker.answer()
        stage.turn()
    assert batches == [requests[:2], [requests[2]], [large], [requests[4]]]


def test_free_workers_share_what_waits(scene):
    stage = scene(2)
    stage.submit(*[Call(rows=BATCH_ROWS) for _ in range(3)])
    assert [len(worker.held) for worker in stage.workers] == [1, 1]
    stage.workers[0].answer()
    stage.turn()
    assert [len(worker.held) for worker in stage.workers] == [1, 1]


def test_an_unbatched_endpoint_gets_requests_one_by_one(scene):
    stage = scene()
    stage.submit(Call(endpoint="one"), Call(endpoint="one"))
    assert len(stage.worker.held) == 1


def test_a_batch_that_fails_runs_again_one_by_one_and_only_the_culprit_fails(scene):
    stage = scene()
    requests = [Tensors(np.full((1 + number % 2, 2), number, np.float32)) for number in range(4)]
    stage.submit(*requests)
    stage.worker.fail()
    stage.turn()
    while stage.worker.held:
        (alone,) = stage.worker.held
        if alone is requests[2]:
            stage.worker.fail(message="index out of bounds")
        else:
            stage.worker.answer()
        stage.turn()
    assert isinstance(requests[2].ends.error, ModelError)
    for number in (0, 1, 3):
        assert requests[number].ends.said == [[[2.0 * number] * 2] * (1 + number % 2)]
    assert stage.service.metrics.retries == 4
    assert stage.service.metrics.outcomes == {"ok": 3, "model_error": 1}


def test_a_refused_body_fails_alone_in_its_batch(scene):
    stage = scene()
    requests = bodies(3)
    stage.submit(*requests)
    stage.worker.answer(refuse=frozenset({1}))
    assert isinstance(requests[1].ends.error, InvalidRequest)
    assert requests[0].ends.said == [b"0"]
    assert requests[2].ends.said == [b"2"]


@pytest.mark.parametrize("shape", [(3, 2), (), (2,), (0, 2)])
def test_outputs_that_do_not_have_the_batchs_rows_are_never_dealt_out(scene, shape):
    stage = scene()
    requests = [Tensors(np.full((1, 2), number, np.float32)) for number in range(4)]
    stage.submit(*requests)
    stage.worker.answer_with(np.zeros(shape, np.float32))
    stage.turn()
    for _ in requests:
        assert len(stage.worker.held) == 1
        stage.worker.answer()
        stage.turn()
    assert [request.ends.said for request in requests] == [[[[2.0 * number] * 2]] for number in range(4)]


def test_an_answer_that_cannot_be_written_fails_alone_and_is_logged(scene):
    stage = scene()

    class Unwritable(Call):
        __slots__ = ()

        def answer(self, json: bytes) -> None:
            raise ZeroDivisionError

    requests = [Call(), Unwritable(), Call()]
    stage.submit(*requests)
    stage.worker.answer()
    assert [type(bug) for bug in stage.bugs] == [ZeroDivisionError]
    assert "reference" in str(requests[1].ends.error)
    assert requests[0].ends.said == requests[2].ends.said == [b"{}"]
    stage.bugs.clear()


def test_a_lone_request_to_a_brisk_model_is_answered_within_its_turn(scene):
    stage = scene(brisk=True)
    first = stage.submit(Call())
    stage.worker.answer()  # from now on the service knows how short its runs are
    second = stage.submit(Call())
    assert first.ends.said == second.ends.said == [b"{}"]
    assert stage.worker.held == []


# --- death -----------------------------------------------------------------------------------------------------------


def test_requests_of_a_lost_worker_run_once_more_each_alone_and_before_all_others(scene):
    stage = scene()
    first, waiting = bodies(3), [Call(body=b"later"), Call(body=b"latest")]
    stage.submit(*first)
    stage.clock.advance_ns(1)
    stage.submit(*waiting)
    stage.worker.die()
    stage.turn()
    stage.worker.ready()
    order = []
    while stage.worker.held:
        order.append(stage.worker.held)
        stage.worker.answer()
        stage.turn()
    assert order == [[first[0]], [first[1]], [first[2]], waiting]
    assert all(len(request.ends.said) == 1 for request in first + waiting)
    assert stage.service.metrics.retries == 3


def test_a_request_whose_second_worker_is_lost_too_is_refused_with_the_reason(scene):
    stage = scene()
    request = stage.submit(Call())
    for reason in ("killed by SIGKILL", "killed by SIGSEGV"):
        stage.worker.die(reason)
        stage.pass_s(0.3)
        stage.worker.ready()
    error = request.ends.error
    assert isinstance(error, WorkerLost)
    assert "SIGSEGV" in error.message
    assert "2 times" in error.message


def test_a_worker_found_dead_when_given_work_costs_nobody_a_try(scene):
    stage = scene()
    stage.worker.deaf = True  # dead, and the node has not been told yet
    requests = bodies(3)
    stage.submit(*requests)
    later = stage.submit(Call(body=b"later"))
    stage.worker.die()
    stage.turn()
    stage.worker.ready()
    assert stage.worker.held == [*requests, later], "in their order, and still together"
    assert stage.service.metrics.retries == 0
    stage.worker.die()  # and each still has its second try
    stage.pass_s(0.3)
    stage.worker.ready()
    assert stage.worker.held == [requests[0]]


def test_a_stream_that_began_is_not_begun_again(scene):
    stage = scene()
    begun = stage.submit(Stream())
    stage.worker.event(b'"one"')
    stage.worker.die()
    stage.turn()
    assert begun.events == [b'"one"']
    assert isinstance(begun.ends.error, WorkerLost)


def test_a_stream_without_events_yet_runs_once_more(scene):
    stage = scene()
    stream = stage.submit(Stream())
    stage.worker.die()
    stage.turn()
    stage.worker.ready()
    stage.worker.event(b"1")
    stage.worker.answer()
    assert (stream.events, stream.ends.said) == ([b"1"], [b"end"])


def test_requests_of_a_lost_worker_go_to_an_idle_one_at_once(scene):
    stage = scene(2)
    request = stage.submit(Call())
    lost, other = stage.workers
    lost.die()
    stage.turn()
    assert other.held == [request]


@pytest.mark.parametrize("where", ["reading the report", "sending"])
def test_a_bug_of_ours_leaves_nobody_waiting(scene, monkeypatch, where):
    stage = scene()

    def broken(*_arguments: object, **_options: object) -> None:
        raise ZeroDivisionError

    requests = bodies(3)
    if where == "sending":
        monkeypatch.setattr(stage.worker, "call", broken)
        stage.submit(*requests)
    else:
        stage.submit(*requests)
        monkeypatch.setattr(stage.worker, "read_answers", broken)
        stage.worker.answer()
    assert all("reference" in request.ends.error.message for request in requests)
    assert [type(bug) for bug in stage.bugs] == [ZeroDivisionError]
    stage.bugs.clear()
    monkeypatch.undo()
    stage.submit(Call())
    stage.worker.answer()
    assert stage.service.metrics.outcomes == {"internal": 3, "ok": 1}


# --- time ------------------------------------------------------------------------------------------------------------


def test_a_request_that_waits_too_long_is_refused(scene):
    stage = scene(request_timeout_s=2)
    running, waiting = stage.submit(Call(endpoint="one")), stage.submit(Call())
    stage.pass_s(1.9)
    assert waiting.ends.said == []
    stage.pass_s(0.2)
    assert isinstance(waiting.ends.error, DeadlineExceeded)
    stage.worker.answer()
    assert running.ends.said == [b"{}"], "what was begun in time is answered"


def test_a_worker_that_takes_too_long_is_ended_and_its_request_tried_once_more(scene):
    stage = scene(run_timeout_s=2)
    request = stage.submit(Call())
    for _ in range(2):
        stage.pass_s(2.1)
        assert stage.worker.killed
        stage.worker.die()
        stage.pass_s(0.3)
        stage.worker.ready()
    assert "did not answer within 2 s" in request.ends.error.message
    assert stage.service.metrics.restarts == {"run_timeout": 2}


def test_a_lost_request_that_has_no_time_left_is_told_of_its_worker_and_not_of_waiting(scene):
    stage = scene(run_timeout_s=2, request_timeout_s=2)
    request = stage.submit(Call())
    stage.pass_s(2.1)
    stage.worker.die()
    assert isinstance(request.ends.error, WorkerLost)
    assert "tried once" in request.ends.error.message


def test_a_worker_that_is_ended_for_slow_loading_says_so(scene):
    stage = scene(start=False, load_timeout_s=3)
    stage.pass_s(3.1)
    assert stage.worker.killed
    stage.worker.die()
    stage.turn()
    with pytest.raises(ModelError, match="not ready within 3 s"):
        stage.starting.result()


# --- clients that leave ----------------------------------------------------------------------------------------------


def test_a_client_that_leaves_takes_its_waiting_request_along(scene):
    stage = scene()
    stage.submit(Call())
    waiting = stage.submit(Call())
    stage.service.cancel(waiting)
    stage.worker.answer()
    stage.turn()
    assert stage.worker.held == []
    assert waiting.ends.said == []
    assert stage.service.metrics.outcomes == {"ok": 1, "cancelled": 1}


def test_a_client_that_leaves_is_not_answered_nor_retried(scene):
    stage = scene()
    requests = bodies(3)
    stage.submit(*requests)
    stage.service.cancel(requests[1])
    stage.worker.die()
    stage.turn()
    stage.worker.ready()
    for _ in range(2):
        stage.worker.answer()
        stage.turn()
    assert requests[1].ends.said == []
    assert stage.service.metrics.outcomes == {"ok": 2, "cancelled": 1}
    assert stage.service.metrics.retries == 2


def test_a_client_that_leaves_its_stream_stops_it(scene):
    stage = scene()
    stream = stage.submit(Stream())
    stage.worker.event(b"1")
    stage.service.cancel(stream)
    assert stage.worker.cancelled == [stage.worker.batch]
    stage.worker.event(b"2")
    stage.worker.answer()
    assert stream.events == [b"1"]
    assert stream.ends.said == []
    assert stage.service.metrics.outcomes == {"cancelled": 1}


def test_a_stream_whose_client_is_behind_waits_without_being_called_slow(scene):
    stage = scene(run_timeout_s=2)
    stream = stage.submit(Stream())
    stream.behind = True
    stage.worker.event(b"1")
    assert stage.worker.paused
    stage.pass_s(60)
    assert not stage.worker.killed
    stream.behind = False
    stage.service.resume(stream)
    assert not stage.worker.paused
    stage.pass_s(2.1)
    assert stage.worker.killed, "now it is the model that is slow"
    stage.worker.die()


def test_a_client_that_leaves_a_paused_stream_lets_the_worker_go_on(scene):
    stage = scene()
    stream = stage.submit(Stream())
    stream.behind = True
    stage.worker.event(b"1")
    stage.service.cancel(stream)
    assert not stage.worker.paused
    stage.worker.answer()
    stage.submit(Call())
    assert len(stage.worker.held) == 1


# --- refusing --------------------------------------------------------------------------------------------------------


def test_a_full_queue_refuses_and_says_when_it_will_have_room(scene):
    stage = scene(queue_limit_rows=10)
    for _ in range(8):  # one row in 1 ms; the first ones are cold and not believed
        stage.submit(Call(endpoint="one"))
        stage.worker.answer()
        stage.pass_s(0.1)
    stage.submit(Call(endpoint="one"))
    stage.pass_s(0.1)
    stage.submit(Call(rows=10))
    with pytest.raises(QueueFull, match=r"limit 10\); now about .* rows/s are answered in time") as refused:
        stage.service.submit(Call(endpoint="one"))
    assert refused.value.retry_after_s == pytest.approx(0.01, rel=0.2)
    assert stage.service.metrics.accepted == 10


def test_a_model_without_hope_refuses_at_once_and_serves_again_when_a_worker_comes(scene):
    stage = scene()
    stage.worker.die("exited with status 1")
    stage.pass_s(0)
    waiting = stage.submit(Call())
    for _ in range(3):
        assert waiting.ends.said == []
        stage.worker.die("exited with status 1")
        stage.pass_s(16)
    assert isinstance(waiting.ends.error, NotReady)
    with pytest.raises(NotReady, match="exited with status 1"):
        stage.service.submit(Call())
    stage.worker.ready()
    assert stage.service.ready
    request = stage.submit(Call())
    stage.worker.answer()
    assert request.ends.said == [b"{}"]


def test_an_idle_worker_that_keeps_dying_does_not_make_a_ready_model_refuse(scene):
    stage = scene(2)
    for _ in range(6):
        stage.workers[1].die()
        stage.pass_s(16)
    stage.submit(Call())
    assert len(stage.workers[0].held) == 1


def test_restarts_after_failed_starts_are_spaced_out(scene):
    stage = scene()
    delays_s = []
    for _ in range(5):
        stage.worker.die()
        waited_s = 0.0
        while not stage.workers:
            stage.pass_s(0.05)
            waited_s += 0.05
        delays_s.append(waited_s)
    assert delays_s == sorted(delays_s)
    assert delays_s[-1] > 8 * delays_s[0]


def test_a_worker_that_cannot_be_started_is_tried_again_later(scene):
    stage = scene()
    stage.launch_error = OSError(errno.EMFILE, "Too many open files")
    stage.worker.die()
    request = stage.submit(Call())
    stage.pass_s(0.6)
    assert stage.workers == []
    stage.launch_error = None
    stage.pass_s(16)
    stage.worker.ready()
    if request.ends.said:
        assert "Too many open files" in request.ends.error.message
    else:
        assert stage.worker.held == [request]
    assert stage.service.metrics.restarts["not_started"] >= 1
    assert stage.service.ready


def test_a_model_that_cannot_be_loaded_fails_the_start(scene):
    stage = scene(2, start=False)
    stage.workers[0].ready()
    stage.workers[1].broken("the weights are not there")
    stage.workers[1].die()
    stage.turn()
    with pytest.raises(SetpointError, match="the weights are not there"):
        stage.starting.result()


# --- the end ---------------------------------------------------------------------------------------------------------


def test_the_end_refuses_what_is_left_and_tells_every_worker(scene):
    stage = scene(2)
    requests = [Call(rows=BATCH_ROWS) for _ in range(5)]
    stage.submit(*requests)
    stage.service.abandon()
    assert all(isinstance(request.ends.error, Draining) for request in requests)
    stage.turn()
    assert stage.workers == []
    with pytest.raises(Draining):
        stage.service.submit(Call())
    stage.pass_s(60)
    assert stage.workers == [], "nobody is started any more"


def test_a_refusal_leaves_nothing_to_the_garbage_collector(scene):
    """Rings of errors, tracebacks and frames made a node under overload stand still for 23 ms every few seconds."""
    stage = scene(queue_limit_rows=1)
    for _ in range(2):  # one runs, one waits
        stage.submit(Call(endpoint="one"))
    late = Call(endpoint="one")
    refused = 0
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            try:
                stage.service.submit(late)
            except QueueFull:
                refused += 1
        assert gc.collect() == 0
    finally:
        gc.enable()
    assert refused == 20
