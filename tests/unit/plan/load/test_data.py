"""What is sent: rows cut from the user's data, or made up so that a model can take them."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from setpoint.core import InvalidConfiguration, TensorSpec
from setpoint.plan.load.targets.asking import split
from setpoint.plan.load.targets.data import encode, fit, make_up, read_lines, read_npz, slices
from setpoint.plan.load.targets.posts import valid_json
from setpoint.plan.load.targets.v2_json import check, recognises

X = TensorSpec("x", "FP32", (-1, 2))


def test_made_up_rows_have_the_shapes_of_the_signature() -> None:
    specs = [
        TensorSpec("input_ids", "INT64", (-1, -1)),
        TensorSpec("attention_mask", "INT64", (-1, -1)),
        TensorSpec("words", "BYTES", (-1,)),
        TensorSpec("flag", "BOOL", (-1, 1)),
    ]
    requests = make_up(specs, rows=3, length=5, seed=1)
    assert {name: array.shape for name, array in requests[0].items()} == {
        "input_ids": (3, 5),
        "attention_mask": (3, 5),
        "words": (3,),
        "flag": (3, 1),
    }
    assert all(array.min() >= 0 and array.max() <= 1 for request in requests for array in [request["input_ids"]])
    assert all(request["attention_mask"].all() for request in requests)
    assert encode(requests[0]) == encode(make_up(specs, 3, 5, 1)[0])
    assert len({encode(request) for request in requests}) > 10


def test_images_have_pixels_enough() -> None:
    (request, *_) = make_up([TensorSpec("image", "FP32", (-1, 3, -1, -1))], 1, 8, 1)
    assert request["image"].shape == (1, 3, 32, 32)


def test_rows_are_cut_in_order_and_labels_left_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.arange(10.0).reshape(5, 2), y=np.arange(5))
    requests = slices(fit(read_npz(tmp_path / "d.npz"), [X], "d.npz"), 2)
    assert [request["x"].tolist() for request in requests] == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    assert requests[0]["x"].dtype == np.float32


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 4)), "shape"),
        (np.array([["a", "b"]]), "FP32"),
        (np.zeros(3), "shape"),
    ],
)
def test_data_that_does_not_fit_is_refused(array: "np.ndarray", message: str) -> None:
    with pytest.raises(InvalidConfiguration, match=message):
        fit({"x": array}, [X], "data d.npz")


def test_what_is_missing_is_named() -> None:
    with pytest.raises(InvalidConfiguration, match=r"no x; the model takes x FP32\[-1, 2\].*holds a, b"):
        fit({"a": np.zeros(1), "b": np.zeros(1)}, [X], "data d.npz")
    with pytest.raises(InvalidConfiguration, match="3 rows, a request takes 4"):
        slices({"x": np.zeros((3, 2))}, 4)
    with pytest.raises(InvalidConfiguration, match="different numbers of rows"):
        slices({"x": np.zeros((3, 2)), "y": np.zeros((4, 2))}, 1)


@pytest.mark.parametrize("text", ["", "\n\n", '{"a": 1}\n{"a": ', "nonsense"])
def test_lines_that_are_not_json_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "d.jsonl").write_text(text)
    with pytest.raises(InvalidConfiguration, match="one JSON document a line"):
        read_lines(tmp_path / "d.jsonl")


def test_files_that_are_no_archives_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_text("text")
    with pytest.raises(InvalidConfiguration, match="cannot be read as"):
        read_npz(tmp_path / "d.npz")


@pytest.mark.parametrize(
    ("url", "is_v2"),
    [
        ("http://h/v2/models/iris", True),
        ("http://h:80/v2/models/iris/infer", True),
        ("http://h/under/v2/models/iris/versions/3/infer", True),
        ("http://h/models/iris/predict", False),
        ("http://h/v2/models", False),
        ("http://h/v2/models/iris/stats", False),
    ],
)
def test_the_protocol_is_known_by_the_path(url: str, is_v2: bool) -> None:
    assert recognises(split(url)) is is_v2


@pytest.mark.parametrize("url", ["", "localhost:8000", "https://h/x", "ftp://h/x", "http://"])
def test_what_is_no_plain_http_is_refused(url: str) -> None:
    with pytest.raises(InvalidConfiguration, match="expected a URL such as"):
        split(url)


def test_answers_are_judged() -> None:
    output = {"name": "y", "datatype": "FP32", "shape": [1], "data": [1.5]}
    assert check(msgspec.json.encode({"model_name": "m", "outputs": [output]})) is None
    for wrong in (b"", b"{}", b'{"outputs":[]}', b'{"outputs":[{}]}', b'{"outputs":[{"name":"y"', b"[1]"):
        assert check(wrong) is not None, wrong
    assert valid_json(b'{"a": [1, 2, {"b": null}]}') is None
    for wrong in (b"", b"{", b'{"a": 1} x', b'{"a": [1,}'):
        assert valid_json(wrong) is not None, wrong
