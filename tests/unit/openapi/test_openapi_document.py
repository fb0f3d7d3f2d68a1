"""The OpenAPI document: valid, free of collisions, and its examples are answered by the real thing."""

import dataclasses
import datetime
import enum
import json
import re
import uuid
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import jsonschema
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator

import setpoint as sp
from setpoint.authoring import contracts, describe
from setpoint.core import Endpoint, Lineage, ModelManifest, Parameter, Signature, TensorSpec, Variant
from setpoint.engines.python_endpoint import PythonEndpoint
from setpoint.wire import docs_page, openapi_document
from setpoint.wire.openapi_examples import MOST_ELEMENTS, example_of, infer_example


class Cat(msgspec.Struct, tag=True):
    lives: int = 9


class Dog(msgspec.Struct, tag=True):
    tricks: list[str] = []


class Tree(msgspec.Struct):
    value: float
    children: "list[Tree]" = []


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Range:
    low: int
    high: int | None = None


class Everything(sp.Model):
    """A model with every kind of argument; every endpoint counts itself as called."""

    @sp.endpoint
    def scalars(self, a: str, b: int, c: float, d: bool, e: bytes, f: None = None) -> int:
        """Take scalars."""
        return 1

    @sp.endpoint
    def structures(self, pet: Cat | Dog, tree: Tree, span: Range, color: Color, way: Literal["x", 2]) -> Tree:
        return tree

    @sp.endpoint
    def arrays(
        self, a: sp.Tensor[np.float32, None, 3], b: np.ndarray[Any, Any], c: sp.Tensor[np.bool_]
    ) -> dict[str, list[float]]:
        return {"a": a.ravel().tolist()}

    @sp.endpoint
    def times(
        self,
        when: Annotated[datetime.datetime, msgspec.Meta(tz=True)],
        day: datetime.date,
        key: uuid.UUID,
        pair: tuple[int, str],
    ) -> str:
        return str(key)

    @sp.endpoint(batch=8)
    def rows(self, texts: list[str], weights: list[float]) -> list[Color]:
        return [Color.RED for _ in texts]

    @sp.endpoint
    def picture(self, image: sp.Image, top: int = 3) -> list[int]:
        return list(image.array().shape)

    @sp.endpoint
    def sound(self, audio: sp.Audio) -> int:
        return len(audio.mono())

    @sp.endpoint
    def words(self, text: str) -> Iterator[Cat]:
        yield Cat(1)

    @sp.endpoint
    def nothing(self) -> None:
        return None


def manifest_of(model_class: type) -> ModelManifest:
    endpoints, schemas = describe(model_class)
    variant = Variant("python", "python", "model.py", model_class.__name__)
    return ModelManifest(endpoints, (variant,), Lineage("python", "sha256:0"), schemas)


def tensor_manifest() -> ModelManifest:
    signature = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 2)),), batched=True)
    schema = {"type": "array", "items": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}}
    endpoint = Endpoint("predict", (Parameter("x", schema),), {"type": "object"}, 64, signature=signature)
    return ModelManifest((endpoint,), (Variant("fp32", "onnxruntime", "model.onnx"),), Lineage("onnx", "sha256:1"))


MODELS = [
    ("everything", manifest_of(Everything)),
    ("every.thing-2", manifest_of(Everything)),
    ("net", tensor_manifest()),
]
DOCUMENT = json.loads(msgspec.json.encode(openapi_document(MODELS, "1.2.3")))


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def test_the_document_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_a_node_without_models_has_a_valid_document_too() -> None:
    OpenAPIV31SpecValidator(openapi_document([], "1")).validate()


def test_every_reference_leads_somewhere() -> None:
    text = json.dumps(DOCUMENT)
    for kind, name in set(re.findall(r'"#/components/(\w+)/([^"]+)"', text)):
        assert name in DOCUMENT["components"][kind]


def test_models_never_share_a_component_and_names_are_allowed() -> None:
    names = list(DOCUMENT["components"]["schemas"])
    assert all(re.fullmatch(r"[a-zA-Z0-9._-]+", name) for name in names)
    for model in ("everything", "every.thing-2"):
        assert {f"{model}.{kind}" for kind in ("Cat", "Dog", "Tree", "Color", "Range")} <= set(names)
    operation = DOCUMENT["paths"]["/models/every.thing-2/structures"]["post"]
    assert "#/components/schemas/everything." not in json.dumps(operation)
    pet = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]["pet"]
    assert pet["discriminator"]["mapping"]["Cat"] == "#/components/schemas/every.thing-2.Cat"


def test_operations_have_ids_of_their_own() -> None:
    identifiers = [operation["operationId"] for _, _, operation in operations()]
    assert len(identifiers) == len(set(identifiers))


def test_every_route_of_the_node_is_there() -> None:
    assert {
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/net",
        "/v2/models/net/ready",
        "/v2/models/net/infer",
        "/v2/models/net/versions/{version}",
        "/v2/models/net/versions/{version}/ready",
        "/v2/models/net/versions/{version}/infer",
        "/metrics",
        "/models/net/predict",
        "/models/everything/rows",
    } <= set(DOCUMENT["paths"])


def test_errors_are_documented_with_one_body() -> None:
    for path, method, operation in operations():
        if path.startswith("/v1/"):  # another body, so other responses
            assert {"4XX", "5XX"} <= set(operation["responses"]), path
            continue
        assert {"404", "405"} <= set(operation["responses"]), path
        if method == "post":
            assert {"400", "408", "413", "415", "500", "503", "504"} <= set(operation["responses"]), path
    error = DOCUMENT["components"]["schemas"]["Error"]
    assert error["properties"] == {"error": {"type": "string"}}


def test_raw_bodies_and_streams_say_so() -> None:
    picture = DOCUMENT["paths"]["/models/everything/picture"]["post"]
    content = picture["requestBody"]["content"]
    assert set(content) == {"application/json", "application/octet-stream", "multipart/form-data"}
    file = next(iter(content["multipart/form-data"]["schema"]["properties"].values()))
    assert file["contentMediaType"] == "application/octet-stream"
    assert "contentEncoding" not in file
    scalars = DOCUMENT["paths"]["/models/everything/scalars"]["post"]
    assert set(scalars["requestBody"]["content"]) == {"application/json", "multipart/form-data"}  # bytes among them
    assert scalars["summary"] == "Take scalars."
    words = DOCUMENT["paths"]["/models/everything/words"]["post"]
    assert set(words["responses"]["200"]["content"]) == {"text/event-stream"}


@pytest.mark.parametrize("contract", contracts(Everything), ids=lambda contract: contract.name)
def test_the_example_fits_its_schema_and_the_model_answers_it(contract: Any) -> None:
    operation = DOCUMENT["paths"][f"/models/everything/{contract.name}"]["post"]
    media = operation["requestBody"]["content"]["application/json"]
    jsonschema.Draft202012Validator(media["schema"] | {"components": DOCUMENT["components"]}).validate(media["example"])
    endpoint = PythonEndpoint(contract, getattr(Everything(), contract.attribute), lambda result: result)
    body = json.dumps(media["example"]).encode()
    if contract.streams:
        assert list(endpoint.stream(body, raw=False)) == [b'{"type":"Cat","lives":1}']
        return
    (answer,) = endpoint.call([body], raw=False)
    assert answer.ok, answer.message
    result = operation["responses"]["200"]["content"]["application/json"]["schema"]
    validator = jsonschema.Draft202012Validator(result | {"components": DOCUMENT["components"]})
    validator.validate(json.loads(answer.body))


def test_v2_examples_fit_the_signature() -> None:
    media = DOCUMENT["paths"]["/v2/models/net/infer"]["post"]["requestBody"]["content"]["application/json"]
    assert media["example"] == {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0.5] * 4}]}
    half = Signature((TensorSpec("x", "FP16", (1,)),), (), batched=False)
    large = Signature((TensorSpec("x", "FP32", (-1, 3, 224, 224)),), (), batched=True)
    for signature in (half, large):
        assert infer_example(signature) is msgspec.UNSET


def test_a_huge_or_endless_example_is_left_out() -> None:
    row: dict[str, Any] = {"type": "array", "items": {"type": "number"}, "minItems": MOST_ELEMENTS + 1}
    assert example_of(row, {}) is msgspec.UNSET
    endless = {"type": "object", "properties": {"a": {"$ref": "#/components/schemas/E"}}, "required": ["a"]}
    assert example_of(endless, {"E": endless}) is msgspec.UNSET


SCHEMAS = st.recursive(
    st.fixed_dictionaries({"type": st.just("integer")}, optional={"minimum": st.integers(-5, 3)})
    | st.fixed_dictionaries({"type": st.just("integer")}, optional={"maximum": st.integers(-5, 3)})
    | st.fixed_dictionaries(
        {"type": st.just("number")}, optional={"exclusiveMinimum": st.integers(-3, 3), "maximum": st.integers(5, 9)}
    )
    | st.fixed_dictionaries({"type": st.just("string")}, optional={"minLength": st.integers(0, 9)})
    | st.fixed_dictionaries({"type": st.just("string"), "maxLength": st.integers(0, 9)})
    | st.sampled_from(
        [{"type": "null"}, {"type": "boolean"}, {"enum": [3, "a"]}, {"const": 5}, {}, {"type": ["number", "null"]}]
    ),
    lambda inner: (
        st.fixed_dictionaries({"type": st.just("array"), "items": inner}, optional={"minItems": st.integers(0, 3)})
        | st.builds(lambda part: {"anyOf": [part, {"type": "null"}]}, inner)
        | st.builds(
            lambda parts: {"type": "object", "properties": parts, "required": list(parts)},
            st.dictionaries(st.text(), inner, max_size=3),
        )
        | st.builds(lambda part: {"type": "object", "additionalProperties": part}, inner)
    ),
    max_leaves=6,
)


@given(schema=SCHEMAS)
def test_examples_fit_any_schema(schema: dict[str, Any]) -> None:
    example = example_of(schema, {})
    if example is not msgspec.UNSET:
        jsonschema.Draft202012Validator(schema).validate(example)


def test_the_docs_page_asks_nothing_from_outside_and_trusts_no_text() -> None:
    page = docs_page().decode()
    addresses = set(
        re.findall(r"(?:https?:)?//[\w.-]+[^\s\"']*", re.sub(r"^\s*//.*|/\*.*\*/", "", page, flags=re.MULTILINE))
    )
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a name of the picture format, not fetched
    assert "default-src 'none'" in page
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", page)
    assert len(page) < 40_000
