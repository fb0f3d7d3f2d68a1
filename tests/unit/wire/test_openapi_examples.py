"""Examples fit the schema or the signature that they were made from."""

from typing import Any

import jsonschema
import msgspec
import pytest

from setpoint.core import Signature, TensorSpec
from setpoint.wire import example_of, infer_example


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer", "minimum": 5}, 5),
        ({"type": "integer", "exclusiveMinimum": 5}, 6),
        ({"type": "integer", "maximum": -1}, -1),
        ({"type": "number", "exclusiveMaximum": 0.5}, -0.5),
        ({"type": "integer", "multipleOf": 4}, 4),
        ({"type": "string", "minLength": 12}, "textxxxxxxxx"),
        ({"type": "string", "maxLength": 2}, "te"),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 3}, [1, 1, 1]),
        ({"type": ["null", "number"]}, 0.5),
        ({"anyOf": [{"type": "null"}, {"type": "boolean"}]}, True),
        ({"enum": ["x", "y"]}, "x"),
    ],
)
def test_bounds_are_kept(schema: dict[str, Any], value: Any) -> None:
    assert example_of(schema, {}) == value
    jsonschema.Draft202012Validator(schema).validate(value)


def test_a_type_that_holds_itself_ends() -> None:
    schemas = {
        "Node": {
            "type": "object",
            "required": ["next"],
            "properties": {"next": {"type": "array", "items": {"$ref": "#/components/schemas/Node"}}},
        }
    }
    deep = example_of({"$ref": "#/components/schemas/Node"}, schemas)
    jsonschema.Draft202012Validator({**schemas["Node"], "components": {"schemas": schemas}}).validate(deep)


def test_what_is_too_large_for_a_page_is_left_out_and_can_still_be_had() -> None:
    schema = {"type": "array", "items": {"type": "number"}, "minItems": 5000}
    assert example_of(schema, {}) is msgspec.UNSET
    assert len(example_of(schema, {}, most_elements=10_000)) == 5000
    wide = Signature((TensorSpec("x", "FP32", (-1, 5000)),), (TensorSpec("y", "FP32", (-1,)),), batched=True)
    assert infer_example(wide) is msgspec.UNSET
    assert infer_example(wide, most_elements=10_000)["inputs"][0]["shape"] == [1, 5000]
