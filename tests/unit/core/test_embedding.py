"""Which endpoints can embed, and how: read once, from what the manifest records."""

import dataclasses
from typing import TypedDict

import numpy as np
import pytest

import setpoint as sp
from setpoint.authoring import describe
from setpoint.core import EmbeddingForm, InvalidConfiguration, ModelManifest, embedding_form

Vector = sp.Tensor[np.float32, 4]


@dataclasses.dataclass
class Row:
    embedding: Vector
    tokens: int


class LooseRow(TypedDict):
    embedding: list[float]
    tokens: int


class Uncounted(TypedDict):
    embedding: list[float]


class FractionOfTokens(TypedDict):
    embedding: list[float]
    tokens: float


def form_of(argument: object, result: object, **options: object) -> EmbeddingForm:
    def embed(self: object, texts: object) -> object: ...

    embed.__annotations__ = {"texts": argument, "return": result}
    model = type("Embeds", (sp.Model,), {"embed": sp.endpoint(task="embed", **{"batch": 8, **options})(embed)})
    endpoints, schemas = describe(model)
    return embedding_form(endpoints[0], schemas)


@pytest.mark.parametrize(
    ("argument", "result", "expected"),
    [
        (list[str], list[Vector], EmbeddingForm("texts", True, False, False, 4, ())),
        (list[str], list[list[float]], EmbeddingForm("texts", True, False, False, 0, ())),
        (list[str], list[Row], EmbeddingForm("texts", True, False, True, 4, ())),
        (list[str | list[int]], list[LooseRow], EmbeddingForm("texts", True, True, True, 0, ())),
        (list[list[int]], list[Vector], EmbeddingForm("texts", False, True, False, 4, ())),
    ],
)
def test_forms_that_are_understood(argument: object, result: object, expected: EmbeddingForm) -> None:
    assert form_of(argument, result) == expected


@pytest.mark.parametrize(
    ("argument", "result", "options"),
    [
        (list[int], list[Vector], {}),
        (list[bytes], list[Vector], {}),
        (list[str | int], list[Vector], {}),
        (list[str], list[str], {}),
        (list[str], list[Uncounted], {}),
        (list[str], list[FractionOfTokens], {}),
        (str, Vector, {"batch": 0}),
    ],
)
def test_others_are_refused_when_the_model_is_packed(argument: object, result: object, options: dict[str, int]) -> None:
    with pytest.raises(InvalidConfiguration, match=r"Embeds\.embed.*task=\"embed\""):
        form_of(argument, result, **options)


def test_dimensions_lie_within_the_vector() -> None:
    assert form_of(list[str], list[Vector], dimensions=(4, 2)).dimensions == (2, 4)
    for impossible in ((5,), (0,)):
        with pytest.raises(InvalidConfiguration, match="length from 1 to 4"):
            form_of(list[str], list[Vector], dimensions=impossible)


def test_a_task_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InvalidConfiguration, match="expected one of 'embed'"):
        sp.endpoint(task="embedd")
    with pytest.raises(InvalidConfiguration, match="goes with task"):
        sp.endpoint(dimensions=(4,))


def test_a_function_keeps_its_task() -> None:
    @sp.endpoint(batch=2, task="embed", dimensions=(2,))
    def embed(texts: list[str]) -> list[Vector]: ...

    (endpoint,), _ = describe(sp.model_from_function(embed))
    assert (endpoint.task, endpoint.dimensions) == ("embed", (2,))


def test_manifests_that_know_of_no_tasks_are_read() -> None:
    old = b"""{"endpoints":[{"name":"e","parameters":[],"result":{}}],"lineage":{"format":"python","source_digest":""},
    "variants":[{"name":"python","engine":"python","artifact":"m.py"}],"schema_version":1}"""
    assert ModelManifest.from_json(old).endpoints[0].task == ""
