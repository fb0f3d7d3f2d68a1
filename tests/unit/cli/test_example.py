"""Example bodies are accepted: they fit the schema, and the codecs that read real requests read them."""

import datetime
import enum
import json
import shlex
import uuid
from typing import Annotated, Literal

import jsonschema
import msgspec
import numpy as np
import pytest

import setpoint as sp
from setpoint.authoring import contracts, decoder, describe
from setpoint.cli.example import INLINE_CHARACTERS, Call, calls, curl
from setpoint.core import DATATYPES, Endpoint, Lineage, ModelManifest, Signature, TensorSpec, Variant
from setpoint.wire import NativeTensorCodec, V2Codec


def manifest_of(engine: str, *endpoints: Endpoint) -> ModelManifest:
    return ModelManifest(endpoints, (Variant("fp32", engine, "model"),), Lineage("test", "sha256:0"))


def tensor_manifest(signature: Signature) -> ModelManifest:
    return manifest_of("onnxruntime", Endpoint("predict", (), {}, 64, signature=signature))


def signature_of(*inputs: TensorSpec, batched: bool = True) -> Signature:
    return Signature(inputs, (TensorSpec("y", "FP32", (-1,)),), batched)


@pytest.mark.parametrize("datatype", [name for name, row in DATATYPES.items() if row.json_number])
@pytest.mark.parametrize("shape", [(-1, 3), (-1,), (-1, -1), (-1, 3, -1, -1), (2, 2)])
def test_v2_accepts_the_example_of_every_datatype(datatype: str, shape: tuple[int, ...]) -> None:
    signature = signature_of(TensorSpec("x", datatype, shape), batched=shape[0] == -1)
    (call,) = calls("m", tensor_manifest(signature))
    assert call.path == "/v2/models/m/infer"
    request = V2Codec(signature, "m", "1").decode(msgspec.json.encode(call.body))
    assert request.arrays[0].dtype == DATATYPES[datatype].dtype


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_what_v2_json_cannot_say_goes_by_the_native_route(datatype: str) -> None:
    signature = signature_of(TensorSpec("x", datatype, (-1, 2)))
    (call,) = calls("m", tensor_manifest(signature))
    assert call.path == "/models/m/predict"
    (array,) = NativeTensorCodec(signature).decode(msgspec.json.encode(call.body)).arrays
    assert array.tolist() == [[0.5, 0.5]]


def test_free_axes_have_one_length_so_that_inputs_fit_each_other() -> None:
    signature = signature_of(TensorSpec("ids", "INT64", (-1, -1)), TensorSpec("mask", "INT64", (-1, -1)))
    (call,) = calls("m", tensor_manifest(signature))
    assert [each["shape"] for each in call.body["inputs"]] == [[1, 8], [1, 8]]


def test_free_axes_of_images_are_long_enough_for_convolutions() -> None:
    (call,) = calls("m", tensor_manifest(signature_of(TensorSpec("pixels", "FP32", (-1, 3, -1, -1)))))
    assert call.body["inputs"][0]["shape"] == [1, 3, 32, 32]


class Colour(enum.Enum):
    RED = "red"


class Person(msgspec.Struct):
    name: str
    age: Annotated[int, msgspec.Meta(ge=18, le=99)]
    friends: "list[Person]"
    nickname: str | None = None


class Everything(sp.Model):
    @sp.endpoint
    def ask(
        self,
        text: str,
        count: int,
        share: float,
        sure: bool,
        raw: bytes,
        words: list[str],
        table: dict[str, int],
        pair: tuple[int, str],
        choice: Literal["a", "b"],
        colour: Colour,
        person: Person,
        when: Annotated[datetime.datetime, msgspec.Meta(tz=True)],  # without it, the schema says no more than "string"
        which: uuid.UUID,
        maybe: int | None,
        vector: sp.Tensor["float32", 3],  # noqa: F821
        grid: np.ndarray,
        picture: sp.Image,
        sound: sp.Audio,
        optional: int = 3,
    ) -> str:
        """Ask."""
        return text

    @sp.endpoint(batch=8)
    def embed(self, texts: list[str]) -> list[str]:
        """Embed."""
        return texts


def test_json_examples_fit_the_schemas_and_the_types_they_were_made_from() -> None:
    endpoints, schemas = describe(Everything)
    ask = endpoints[0]
    manifest = msgspec.structs.replace(manifest_of("python", *endpoints), schemas=schemas)
    body = calls("m", manifest)[0].body
    assert "optional" not in body
    for parameter in ask.parameters:
        if parameter.name in body:
            document = {**parameter.schema, "components": {"schemas": schemas}}
            jsonschema.Draft202012Validator(document).validate(body[parameter.name])
    contract = contracts(Everything)[0]
    arguments = decoder(contract.request_type()).decode(json.dumps(body))
    assert arguments.person.age >= 18
    assert arguments.picture.format == "PNG"
    assert arguments.sound.sample_rate_hz == 16000


def test_a_class_is_called_by_its_own_arguments_one_line_per_endpoint() -> None:
    endpoints, schemas = describe(Everything)
    manifest = msgspec.structs.replace(manifest_of("python", *endpoints), schemas=schemas)
    ask, embed = calls("m", manifest)
    assert (ask.path, embed.path) == ("/models/m/ask", "/models/m/embed")
    assert embed.body == {"texts": ["text"]}


def test_a_short_body_stands_in_the_line_quoted_for_the_shell() -> None:
    line = curl(Call("say", "/models/m/say", {"text": "it's"}), "http://127.0.0.1:8000", "m:1")
    words = shlex.split(line)
    assert words[:3] == ["curl", "-s", "http://127.0.0.1:8000/models/m/say"]
    assert json.loads(words[-1]) == {"text": "it's"}


def test_a_long_body_is_fetched_and_a_stream_is_not_buffered() -> None:
    long = curl(Call("predict", "/v2/models/m/infer", {"x": [1] * INLINE_CHARACTERS}), "http://h:1", "m:1")
    assert long == "setpoint inspect m:1 --example predict | curl -s http://h:1/v2/models/m/infer -d @-"
    assert curl(Call("say", "/models/m/say", {}, streams=True), "http://h:1", "m:1").startswith("curl -sN ")
