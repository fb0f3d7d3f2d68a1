"""A tensor's JSON Schema accepts exactly its nested lists, and a source's digest is of its content."""

from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint.core import DATATYPES, TensorSpec
from setpoint.formats.tensor_model import source_digest, tensor_schema

specs = st.builds(
    TensorSpec,
    st.just("x"),
    st.sampled_from(sorted(DATATYPES)),
    st.lists(st.integers(-1, 3), max_size=3).map(tuple),
)


@given(specs, st.integers(0, 3))
def test_a_tensor_as_nested_lists_fits_its_schema(spec: TensorSpec, free: int) -> None:
    shape = tuple(free if length == -1 else length for length in spec.shape)
    zeros = np.full(shape, "") if spec.datatype == "BYTES" else np.zeros(shape, spec.type.dtype)
    value = zeros.tolist() if spec.datatype != "BF16" else zeros.astype(np.float32).tolist()
    schema = tensor_schema(spec)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(value, schema)


@pytest.mark.parametrize(
    ("datatype", "shape", "value"),
    [
        ("FP32", (2,), [1.0]),
        ("FP32", (-1,), 1.0),
        ("FP32", (-1,), ["1"]),
        ("FP32", (-1, 2), [[1.0, 2.0], [1.0]]),
        ("INT8", (), 128),
        ("UINT8", (), -1),
        ("INT64", (), 0.5),
        ("BOOL", (), 1),
        ("BYTES", (), 1),
    ],
)
def test_what_is_no_such_tensor_does_not_fit(datatype: str, shape: tuple[int, ...], value: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, tensor_schema(TensorSpec("x", datatype, shape)))


def test_a_folders_digest_is_of_paths_and_bytes(tmp_path: Path) -> None:
    def folder(name: str, **files: str) -> Path:
        made = tmp_path / name
        for path, text in files.items():
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            (made / path).write_text(text)
        return made

    one = source_digest(folder("one", **{"a": "1", "sub/b": "2"}))
    assert one == source_digest(folder("two", **{"sub/b": "2", "a": "1"}))
    assert one != source_digest(folder("three", **{"a": "1", "sub/c": "2"}))
    assert one != source_digest(folder("four", **{"a": "1", "sub/b": "3"}))
    assert source_digest(tmp_path / "one" / "a").startswith("sha256:6b86b273ff34")
