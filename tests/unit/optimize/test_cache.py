"""What was done before is found again, and nothing else is."""

import os
from pathlib import Path

import numpy as np
import pytest

from setpoint.optimize import cache as cache_module
from setpoint.optimize.cache import Cache, digest_of_arrays, key_of
from setpoint.optimize.makers import Made
from setpoint.optimize.making import Product
from setpoint.optimize.study import Skipped


def test_a_record_is_found_under_its_key_alone(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.write(key_of("a", 1), Skipped("m", "why"))
    assert cache.read(key_of("a", 1), Skipped) == Skipped("m", "why")
    assert cache.read(key_of("a", 2), Skipped) is None
    assert Cache(None).read(key_of("a", 1), Skipped) is None


def test_a_damaged_record_counts_as_none(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    (tmp_path / f"{key_of('x')}.json").write_text("{")
    assert cache.read(key_of("x"), Skipped) is None


def test_keys_know_values_shapes_and_types() -> None:
    arrays = [np.arange(6.0), np.arange(6.0).reshape(2, 3), np.arange(6), np.array([b"a", b"b"], np.object_), None]
    digests = {digest_of_arrays([array]) for array in arrays}
    assert len(digests) == len(arrays)
    assert digest_of_arrays([np.arange(6.0)]) in digests
    assert digest_of_arrays([np.array([b"a", b"b"], np.object_)]) in digests


def product(folder: Path, model: Path) -> Product:
    folder.mkdir()
    (folder / "int8.onnx").write_bytes(b"graph")
    (folder / "int8.weights").write_bytes(b"weights")
    return Product(
        (Made("int8", "int8", folder / "int8.onnx", note="n"), Made("ov", "fp32", model, "openvino", "fp32"))
    )


def test_what_a_maker_made_is_placed_into_the_next_runs_folder(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    cache = Cache(tmp_path / "cache")
    cache.keep_product("key", product(tmp_path / "first", model), model)
    found = cache.product("key", tmp_path / "second", model)
    assert [made.artifact for made in found.made] == [tmp_path / "second" / "int8.onnx", model]
    assert (tmp_path / "second" / "int8.onnx").read_bytes() == b"graph"
    assert (tmp_path / "second" / "int8.weights").read_bytes() == b"weights"
    assert found.made[0].note == "n"
    assert cache.product("other", tmp_path / "third", model) is None


@pytest.mark.parametrize("damage", ["record", "file"])
def test_a_damaged_product_counts_as_none_and_is_kept_anew(tmp_path: Path, damage: str) -> None:
    model = tmp_path / "model.onnx"
    cache = Cache(tmp_path / "cache")
    made = product(tmp_path / "first", model)
    cache.keep_product("key", made, model)
    if damage == "record":
        (tmp_path / "cache" / "key" / "product.json").write_text("{")
    else:
        (tmp_path / "cache" / "key" / "int8.onnx").unlink()
    assert cache.product("key", tmp_path / "second", model) is None
    cache.keep_product("key", made, model)
    assert cache.product("key", tmp_path / "third", model) is not None


def test_what_was_used_longest_ago_goes_first(tmp_path: Path, monkeypatch) -> None:
    model = tmp_path / "model.onnx"
    cache = Cache(tmp_path / "cache")
    for age, key in ((300, "old"), (200, "used"), (100, "new")):
        cache.keep_product(key, product(tmp_path / key, model), model)
        os.utime(tmp_path / "cache" / key, (10_000 - age, 10_000 - age))
    cache.product("old", tmp_path / "again", model)  # used just now
    monkeypatch.setattr(cache_module, "LIMIT_BYTES", 800)
    cache.keep_product("newest", product(tmp_path / "newest", model), model)
    assert "used" not in {place.name for place in (tmp_path / "cache").iterdir()}
    assert {"old", "newest"} <= {place.name for place in (tmp_path / "cache").iterdir()}
