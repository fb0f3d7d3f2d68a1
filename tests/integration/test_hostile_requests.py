"""Thousands of malformed and hostile requests among good ones, over real sockets, against a real node.

The same campaign with 100,000 requests: ``python benchmarks/hostile/run.py``.
"""

import asyncio
from collections.abc import Iterator

import pytest
from harness import RunningNode, pack_into, start_node, until

from hostile.campaign import Tally, campaign
from hostile.models import WORDS, Iris, train_iris

REQUESTS = 3000
GROWTH_LIMIT_BYTES = 3 << 20


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningNode, Iris]]:
    folder = tmp_path_factory.mktemp("hostile")
    graph, iris = train_iris()
    home = folder / "home"
    pack_into(home, folder, graph, "iris")
    pack_into(home, folder, WORDS, "words")
    node = start_node(home, folder, "iris", "words").until_ready()
    yield node, iris
    node.end()


def at_rest(node: RunningNode) -> bool:
    """No connection but ours, nothing in flight but this scrape, and every accepted request has one outcome."""
    accepted = node.metric("setpoint_requests_accepted_total")
    return (
        node.metric("setpoint_http_in_flight") == 1
        and node.metric("setpoint_http_connections") == 1
        and node.metric("setpoint_queue_rows") == 0
        and sum(node.outcomes().values()) == accepted
    )


def check(node: RunningNode, tally: Tally) -> None:
    assert not tally.wrong, "\n".join(tally.complaints)
    assert not [status for status in tally.statuses if status >= 500]
    until(lambda: at_rest(node), 5, "the node is at rest")
    assert not {kind for kind in node.outcomes() if kind in ("internal", "model_error", "worker_lost")}
    assert "bug" not in node.log
    assert "Traceback" not in node.log


def test_none_is_answered_with_a_server_error_and_good_ones_stay_right(attacked: tuple[RunningNode, Iris]) -> None:
    node, iris = attacked
    workers = node.workers()
    tally = asyncio.run(campaign(node.port, iris, REQUESTS, seed=20))
    assert tally.hostile >= REQUESTS
    assert tally.good > REQUESTS / 10
    assert len(tally.sent) > 30
    check(node, tally)
    assert node.workers() == workers


def test_nothing_of_them_is_kept(attacked: tuple[RunningNode, Iris]) -> None:
    node, iris = attacked

    def run(seed: int) -> int:
        check(node, asyncio.run(campaign(node.port, iris, 1000, seed, small=True)))
        return int(node.metric("setpoint_resident_bytes"))

    run(1), run(2)
    before = run(3)
    after = [run(seed) for seed in range(4, 8)]
    assert min(after) - before < GROWTH_LIMIT_BYTES, [bytes_ >> 10 for bytes_ in (before, *after)]


def test_the_campaign_can_see_wrong_answers(attacked: tuple[RunningNode, Iris]) -> None:
    node, iris = attacked
    wrong = Iris(iris.rows, (iris.labels + 1) % 3, iris.probabilities)
    tally = asyncio.run(campaign(node.port, wrong, 50, seed=1))
    assert tally.wrong["good"] > 0
    assert tally.good == 0
    assert "labels" in tally.complaints[0]
