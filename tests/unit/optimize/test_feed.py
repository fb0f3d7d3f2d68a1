"""Rows to measure and to judge with."""

from pathlib import Path

import numpy as np
import pytest

from setpoint.core import InvalidConfiguration, Signature, TensorSpec
from setpoint.optimize.feed import Examples, Feed, read_examples

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 1)),), batched=True)


def test_batches_go_around_the_rows() -> None:
    feed = Feed([np.arange(10).reshape(5, 2)], SIGNATURE, 64)
    assert feed.most_rows == 64
    assert [feed.batch(3, start)[0][:, 0].tolist() for start in range(2)] == [[0, 2, 4], [6, 8, 0]]
    assert len(feed.batch(12)[0]) == 12


def test_a_model_without_a_batch_axis_gets_its_input_whole() -> None:
    alone = Signature(SIGNATURE.inputs, SIGNATURE.outputs, batched=False)
    feed = Feed([np.zeros((5, 2))], alone, 64)
    assert feed.most_rows == 1
    assert feed.batch(1)[0].shape == (5, 2)


def test_no_row_that_calibrates_also_judges() -> None:
    rows = np.arange(400, dtype=np.float32).repeat(2).reshape(400, 2)
    calibration, judged = Examples((rows,), np.arange(400), "rows", real=True).split()
    seen, judging = (set(part.arrays[0][:, 0].tolist()) for part in (calibration, judged))
    assert not seen & judging
    assert seen | judging == set(range(400))
    assert len(seen) == 100
    assert judged.labels.tolist() == judged.arrays[0][:, 0].tolist(), "labels stay with their rows"


def test_labels_may_have_any_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2)), target=np.array([1, 2, 3]))
    found = read_examples(tmp_path / "a.npz", SIGNATURE)
    assert found.labels.tolist() == [1, 2, 3]
    assert found.arrays[0].dtype == np.float32
    np.savez(tmp_path / "b.npz", anything=np.zeros((3, 2)))
    assert read_examples(tmp_path / "b.npz", SIGNATURE).labels is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"z": np.zeros((3, 2)), "w": np.zeros(3)}, "expected an array for each of x"),
        ({"x": np.zeros((3, 2)), "a": np.zeros(3), "b": np.zeros(3)}, "a, b beside the inputs"),
        ({"x": np.zeros((3, 2)), "label": np.zeros(4)}, r"one row for each example, got \[3, 4\] rows"),
        ({"x": np.zeros((0, 2))}, "one row for each example"),
        ({"x": np.zeros((3, 5))}, r"got shape \[3, 5\]"),
    ],
)
def test_data_that_does_not_fit_is_refused(tmp_path: Path, arrays, message) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InvalidConfiguration, match=message):
        read_examples(tmp_path / "a.npz", SIGNATURE)
