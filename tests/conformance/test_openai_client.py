"""The openai client, unmodified, against a real node: listing, embedding in all forms, and how it reads our errors."""

import asyncio
import base64
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import numpy as np
import openai
import pytest
from harness import RunningNode

from setpoint.client import Client

EMBEDDER = """
import dataclasses, zlib
import jsonschema
import numpy as np
import setpoint as sp

@dataclasses.dataclass
class Row:
    embedding: sp.Tensor["float32", 4]
    tokens: int

class Embedder(sp.Model):
    @sp.endpoint(batch=8, task="embed", dimensions=(2,))
    def embeddings(self, texts: list[str | list[int]]) -> list[Row]:
        return [Row(vector(text), len(text.split()) + 1 if isinstance(text, str) else len(text)) for text in texts]

def vector(text):
    return np.random.default_rng(zlib.crc32(repr(text).encode())).standard_normal(4).astype("float32")
"""
PLAIN = """
import time
import setpoint as sp

class Plain(sp.Model):
    @sp.endpoint(batch=8, task="embed")
    def embed(self, texts: list[str]) -> list[list[float]]:
        if "damn" in texts:
            raise sp.InvalidInput("no swearing")
        if "slow" in texts:
            time.sleep(0.5)
        return [[float(len(text)), 0.5, -0.25] for text in texts]
"""
CLASSIFIER = """
import setpoint as sp

class Classifier(sp.Model):
    @sp.endpoint
    def predict(self, text: str) -> str:
        return text
"""


@pytest.fixture(scope="module")
def node(serve: Callable[..., RunningNode]) -> RunningNode:
    sources = {"embedder": EMBEDDER, "plain": PLAIN, "iris": CLASSIFIER}
    return serve(sources, limits={"queue_limit_rows": 40})


@pytest.fixture(scope="module")
def url(node: RunningNode) -> str:
    return f"http://127.0.0.1:{node.port}"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=20) as client:
        yield client


def float32(numbers: list[float]) -> list[float]:
    """The same as float32, of which JSON numbers are the shortest spelling."""
    return np.array(numbers, np.float32).tolist()


def test_models_are_those_that_embed(client: openai.OpenAI) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert listed.keys() == {"embedder", "plain"}
    one = client.models.retrieve("embedder")
    assert one == listed["embedder"]
    assert (one.object, one.owned_by) == ("model", "setpoint")
    assert one.created > 1_700_000_000
    assert client.models.retrieve("embedder:1").id == "embedder"


def test_a_model_that_is_not_there(client: openai.OpenAI) -> None:
    for ask in (lambda: client.models.retrieve("nobody"), lambda: client.embeddings.create(model="nobody", input="a")):
        with pytest.raises(openai.NotFoundError) as caught:
            ask()
        assert caught.value.code == "model_not_found"
        assert "nobody" in caught.value.message


def test_a_model_that_does_not_embed(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="not as one that embeds text") as caught:
        client.embeddings.create(model="iris", input="a")
    assert (caught.value.param, caught.value.type) == ("model", "invalid_request_error")


@pytest.mark.parametrize("texts", ["one text", ["one text"], ["several", "", "texts with naïve café 🙂"]])
def test_vectors_are_those_of_the_native_route(client: openai.OpenAI, url: str, texts: Any) -> None:
    answer = client.embeddings.create(model="embedder", input=texts)  # asks for base64 unless told otherwise
    rows = [texts] if isinstance(texts, str) else texts
    with Client(url) as native:
        expected = native.call("embedder/embeddings", texts=rows)
    assert [float32(row.embedding) for row in answer.data] == [float32(row["embedding"]) for row in expected]
    assert [row.index for row in answer.data] == list(range(len(rows)))
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(row["tokens"] for row in expected)
    assert answer.model == "embedder"


def test_every_encoding_says_the_same(client: openai.OpenAI) -> None:
    ask = {"model": "embedder:1", "input": ["a", "bb"]}
    numbers = [float32(row.embedding) for row in client.embeddings.create(**ask, encoding_format="float").data]
    assert numbers == [row.embedding for row in client.embeddings.create(**ask).data]
    texts = [row.embedding for row in client.embeddings.create(**ask, encoding_format="base64").data]
    assert numbers == [np.frombuffer(base64.b64decode(text), "<f4").tolist() for text in texts]


def test_token_ids(client: openai.OpenAI) -> None:
    one = client.embeddings.create(model="embedder", input=[5, 6, 7])
    assert (len(one.data), one.usage.prompt_tokens) == (1, 3)
    two = client.embeddings.create(model="embedder", input=[[5, 6, 7], [8]])
    assert (len(two.data), two.usage.prompt_tokens) == (2, 4)
    assert two.data[0].embedding == one.data[0].embedding
    with pytest.raises(openai.BadRequestError, match="takes texts, not token ids") as caught:
        client.embeddings.create(model="plain", input=[5, 6, 7])
    assert caught.value.param == "input"


def test_a_shorter_vector_is_given_where_the_model_says_that_it_may_be(client: openai.OpenAI) -> None:
    whole = np.array(client.embeddings.create(model="embedder", input="a").data[0].embedding)
    cut = np.array(client.embeddings.create(model="embedder", input="a", dimensions=2).data[0].embedding)
    assert np.allclose(cut, whole[:2] / np.linalg.norm(whole[:2]))
    with pytest.raises(openai.BadRequestError, match="not 3") as caught:
        client.embeddings.create(model="embedder", input="a", dimensions=3)
    assert caught.value.param == "dimensions"
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model="plain", input="a", dimensions=2)


def test_answers_say_which_model_gave_them(client: openai.OpenAI) -> None:
    answer = client.embeddings.with_raw_response.create(model="plain", input="a")
    assert answer.headers["setpoint-model"].startswith("plain@sha256:")
    assert "run;dur=" in answer.headers["server-timing"]
    assert answer.headers["x-request-id"]


def test_usage_is_estimated_where_the_model_does_not_count(client: openai.OpenAI) -> None:
    usage = client.embeddings.create(model="plain", input="12345678").usage
    assert usage.prompt_tokens == 2
    assert "estimated" in usage.model_dump()["counted"]


def test_what_the_model_refuses_is_a_bad_request(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="no swearing") as caught:
        client.embeddings.create(model="plain", input="damn")
    assert caught.value.code == "invalid_request"


@pytest.mark.parametrize("texts", [[], [1, "a"], [[]]])
def test_impossible_input(client: openai.OpenAI, texts: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="embedder", input=texts)
    assert (caught.value.type, caught.value.param) == ("invalid_request_error", "input")


def test_routes_of_models_that_generate_are_kept_free(client: openai.OpenAI) -> None:
    for model in ("embedder", "nobody"):
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hello"}])
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model=model, prompt="hello")


def test_paths_and_verbs_that_do_not_exist_are_errors_of_the_same_form(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.moderations.create(input="a")
    assert missing.value.code == "not_found"
    with pytest.raises(openai.APIStatusError) as wrong_verb:
        client.models.delete("embedder")
    assert (wrong_verb.value.status_code, wrong_verb.value.code) == (405, "method_not_allowed")


def test_a_full_queue_is_told_with_when_to_come_again(client: openai.OpenAI) -> None:
    def ask(_: int) -> openai.APIStatusError | None:
        try:
            client.embeddings.create(model="plain", input=["slow"] * 30)
        except openai.APIStatusError as refused:
            return refused
        return None

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, range(6)))
    refusals = [answer for answer in answers if answer is not None]
    assert 0 < len(refusals) < len(answers)
    for refused in refusals:
        assert (refused.status_code, refused.code, refused.type) == (503, "queue_full", "server_error")
        assert int(refused.response.headers["retry-after"]) >= 1


async def _asynchronous(url: str) -> list[list[float]]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        return [row.embedding for row in (await client.embeddings.create(model="embedder", input=["a", "b"])).data]


def test_the_asynchronous_client_too(client: openai.OpenAI, url: str) -> None:
    expected = [row.embedding for row in client.embeddings.create(model="embedder", input=["a", "b"]).data]
    assert asyncio.run(_asynchronous(url)) == expected


def test_the_openapi_document_describes_what_is_answered(node: RunningNode) -> None:
    document = node.ask("GET", "/openapi.json").json
    store = {"components": document["components"]}

    def judge(name: str, answer: object) -> None:
        jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", **store}).validate(answer)

    request = document["paths"]["/v1/embeddings"]["post"]["requestBody"]["content"]["application/json"]["example"]
    judge("EmbeddingsRequest", request)
    for encoding in ("float", "base64"):
        judge("EmbeddingsResponse", node.ask("POST", "/v1/embeddings", {**request, "encoding_format": encoding}).json)
    judge("OpenAIModels", node.ask("GET", "/v1/models").json)
    judge("OpenAIModel", node.ask("GET", "/v1/models/plain").json)
    judge("OpenAIError", node.ask("GET", "/v1/models/nobody").json)
    judge("OpenAIError", node.ask("POST", "/v1/embeddings", b"[").json)
    judge("Catalogue", node.ask("GET", "/models").json)


def test_models_come_and_go_while_the_node_runs(
    serve: Callable[..., RunningNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SETPOINT_ADMIN_TOKEN", "correct-horse-battery-staple")
    node = serve({"first": PLAIN, "second": PLAIN})
    admin = {"authorization": "Bearer correct-horse-battery-staple"}
    with openai.OpenAI(base_url=f"http://127.0.0.1:{node.port}/v1", api_key="any", max_retries=0) as client:
        assert {model.id for model in client.models.list()} == {"first", "second"}
        assert node.ask("POST", "/v2/repository/models/second/unload", {}, headers=admin).status == 200
        assert {model.id for model in client.models.list()} == {"first"}
        with pytest.raises(openai.NotFoundError) as caught:
            client.embeddings.create(model="second", input="a")
        assert caught.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("second")
        assert node.ask("POST", "/v2/repository/models/second/load", {}, headers=admin).status == 200
        assert client.models.retrieve("second").id == "second"
        assert len(client.embeddings.create(model="second", input="a").data) == 1
