"""What is kept of an answer is its own, knows its size, and writes what a batch would have written."""

import numpy as np
import pytest

from setpoint.core import InvalidConfiguration
from setpoint.node.cache import CacheTerms
from setpoint.node.cache.values import TensorsValue
from setpoint.wire import BatchOutputs


def test_a_part_of_a_batch_is_copied_and_cannot_be_written_to() -> None:
    batch = [np.arange(12, dtype=np.float32).reshape(6, 2), np.arange(6)]
    value = TensorsValue.of_part(BatchOutputs(batch, together=True), 2, 4, "int8")
    batch[0][:] = -1
    assert value.part(0, 0, 2).tolist() == [[4.0, 5.0], [6.0, 7.0]]
    assert value.part(1, 0, 2).tolist() == [2, 3]
    with pytest.raises(ValueError, match="read-only"):
        value.arrays[0][0, 0] = 1


def test_digits_are_those_of_the_batch_and_are_made_and_counted_once() -> None:
    batch = BatchOutputs([np.array([[0.1, 2.0], [3.5, -0.0]], np.float32)], together=True)
    value = TensorsValue.of_part(batch, 0, 2, "fp32")
    grown = []
    value.on_growth = lambda: grown.append(value.size_bytes)
    before_bytes = value.size_bytes
    first, again = value.flat_json(0, 0, 2), value.flat_json(0, 0, 2)
    assert first == again == batch.flat_json(0, 0, 2)
    assert first[1] is again[1]
    assert grown == [before_bytes + len(first[1])]


def test_the_size_counts_elements_of_texts_too() -> None:
    short, long = np.array([b"a"], object), np.array([b"a" * 1000], object)
    assert TensorsValue([long], "").size_bytes - TensorsValue([short], "").size_bytes == 999
    numbers = np.zeros((10, 10))
    assert TensorsValue([numbers], "").size_bytes >= numbers.nbytes


@pytest.mark.parametrize(
    ("terms", "why"),
    [
        ({"budget_bytes": 0}, "needs memory"),
        ({"budget_bytes": -1}, "needs memory"),
        ({"ttl_s": 0}, "above 0"),
        ({"store_timeout_s": 0}, "above 0"),
        ({"url": "localhost:6379"}, "redis://"),
        ({"url": "http://localhost"}, "redis://"),
    ],
)
def test_impossible_terms_are_refused_with_what_is_possible(terms: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidConfiguration, match=why):
        CacheTerms(**terms)  # type: ignore[arg-type]


def test_a_store_alone_is_a_cache() -> None:
    assert CacheTerms(budget_bytes=0, url="redis://localhost").url
