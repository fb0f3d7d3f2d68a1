"""``PipelineModel``: a declared pipeline as a served model, its endpoint made for its task."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.authoring.files import ModelFile
from setpoint.authoring.media import Image
from setpoint.authoring.model import Context, Model, endpoint
from setpoint.authoring.pipeline import FUSED_OUTPUTS, Pipeline, read_pipeline
from setpoint.authoring.pipeline_steps import Tokens, pixels, pooled, raw_pixels, scores
from setpoint.authoring.tensor import Tensor
from setpoint.core import ModelError

BATCH_ROWS = 32


class Score(msgspec.Struct, frozen=True):
    """A label and how sure the model is of it."""

    label: str
    score: float


class Classification(msgspec.Struct, frozen=True):
    """The best label, and the best few."""

    label: str
    score: float
    scores: list[Score]


class Entity(msgspec.Struct, frozen=True):
    """A stretch of a text that has a label: ``text[start:end]``."""

    label: str
    score: float
    start: int
    end: int
    text: str


class PipelineModel(Model):
    """A graph with what ``pipeline.json`` declares before and after it.

    ``class Mood(sp.PipelineModel, pipeline="pipeline.json"): model = sp.uses("model.onnx")``; a pipeline of texts also
    declares ``tokenizer = sp.file("tokenizer.json")``.
    """

    declared: Pipeline
    model: Any = None
    tokenizer: Any = None

    def __init_subclass__(cls, *, pipeline: str, **settings: Any) -> None:
        """Read the pipeline and define the endpoint of its task."""
        super().__init_subclass__(**settings)
        beside = Path(sys.modules[cls.__module__].__file__ or "")
        cls.declared = read_pipeline(beside.parent / pipeline)
        name, method = _ENDPOINTS[cls.declared.task](cls.declared)
        setattr(cls, name, method)

    def load(self, ctx: Context) -> None:
        """Read the tokenizer.

        Raises:
            MissingExtra: its library is not installed.
            ModelError: it cannot be read, or the graph is another task's.
        """
        # The library's own threads would take the cores that the worker was not given.
        os.environ["TOKENIZERS_PARALLELISM"] = "true" if ctx.threads > 1 else "false"
        if self.declared.text is not None:
            self._tokens = Tokens(self.declared.text, Path(self.tokenizer), self.model.signature)
        elif len(self.model.signature.inputs) != 1:
            raise ModelError("a graph of images takes one input")

    def outputs(self, inputs: dict[str, NDArray[Any]]) -> NDArray[Any]:
        """The graph's output that the pipeline reads."""
        graph: ModelFile = self.model
        given = graph.run(inputs)
        name = self.declared.output or graph.signature.outputs[0].name
        if name not in given:
            raise ModelError(f"the graph gives {', '.join(given)} and no {name!r}")
        return given[name]

    def of_texts(self, texts: list[str]) -> tuple[NDArray[Any], dict[str, NDArray[Any]], list[Any]]:
        """What the graph gives for texts, its inputs, and the encodings."""
        inputs, encodings = self._tokens(texts)
        return self.outputs(inputs), inputs, encodings

    def classified_texts(self, texts: list[str]) -> list[Classification]:
        """Labels of texts."""
        return self._classified(self._tokens(texts)[0])

    def classified_images(self, images: list[Image]) -> list[Classification]:
        """Labels of images."""
        steps = self.declared.image
        assert steps is not None
        (spec,) = self.model.signature.inputs
        if self.declared.fused:
            return self._classified({spec.name: raw_pixels(images, steps)})
        return self._classified({spec.name: pixels(images, steps).astype(spec.type.dtype, copy=False)})

    def _classified(self, inputs: dict[str, NDArray[Any]]) -> list[Classification]:
        """Labels of the best scores, row by row."""
        if self.declared.fused:
            given = self.model.run(inputs)
            return self._named(*(given[name] for name in FUSED_OUTPUTS))
        outputs = self.outputs(inputs)
        declared = self.declared
        rows = scores(outputs.reshape(len(outputs), -1), declared.activation)
        if rows.shape[1] != len(declared.labels):
            raise ModelError(f"the graph gives {rows.shape[1]} scores for {len(declared.labels)} labels")
        count = max(1, min(declared.top_k, rows.shape[1]))
        best = np.argsort(-rows, axis=1, kind="stable")[:, :count]
        return self._named(np.take_along_axis(rows, best, axis=1), best)

    def _named(self, best_scores: NDArray[Any], positions: NDArray[Any]) -> list[Classification]:
        answers = []
        for values, places in zip(best_scores.tolist(), positions.tolist(), strict=True):
            listed = [Score(self.declared.labels[place], value) for place, value in zip(places, values, strict=True)]
            answers.append(Classification(listed[0].label, listed[0].score, listed))
        return answers


def _text_classifier(_declared: Pipeline) -> tuple[str, Callable[..., Any]]:
    def classify(self: PipelineModel, texts: list[str]) -> list[Classification]:
        """The labels of texts, the best first."""
        return self.classified_texts(texts)

    return "classify", endpoint(batch=BATCH_ROWS)(classify)


def _image_classifier(_declared: Pipeline) -> tuple[str, Callable[..., Any]]:
    def classify(self: PipelineModel, images: list[Image]) -> list[Classification]:
        """The labels of JPEG, PNG or WebP images, the best first."""
        return self.classified_images(images)

    return "classify", endpoint(batch=BATCH_ROWS)(classify)


def _embedder(declared: Pipeline) -> tuple[str, Callable[..., Any]]:
    def embed(self: PipelineModel, texts: Any) -> Any:
        """A vector for each text."""
        outputs, inputs, _ = self.of_texts(texts)
        mask = inputs.get("attention_mask", np.ones(outputs.shape[:2]))
        return list(pooled(outputs, mask, self.declared.pooling, normalize=self.declared.normalize))

    vector = Tensor.__class_getitem__(("float32", declared.dimensions))
    embed.__annotations__ = {"texts": list[str], "return": types.GenericAlias(list, vector)}
    return "embed", endpoint(batch=BATCH_ROWS, task="embed")(embed)


def _token_classifier(_declared: Pipeline) -> tuple[str, Callable[..., Any]]:
    def tag(self: PipelineModel, texts: list[str]) -> list[list[Entity]]:
        """The labelled stretches of texts; tokens of the label O are left out, neighbours of one label joined."""
        outputs, _, encodings = self.of_texts(texts)
        rows = scores(outputs, self.declared.activation)
        triples = zip(texts, rows, encodings, strict=True)
        return [_entities(text, row, encoding, self.declared) for text, row, encoding in triples]

    return "tag", endpoint(batch=BATCH_ROWS)(tag)


def _entities(text: str, rows: NDArray[np.float64], encoding: Any, declared: Pipeline) -> list[Entity]:
    """Tokens joined into stretches: a ``B-`` label begins one, ``I-`` and the pieces of a word go on with it."""
    shift = len(declared.text.prefix) if declared.text else 0
    found: list[tuple[str, list[float], int, int]] = []
    last_word = None
    for position, word in enumerate(encoding.word_ids):
        start, end = (place - shift for place in encoding.offsets[position])
        if word is None or end <= max(start, 0):
            continue
        best = int(rows[position].argmax())
        label, score = declared.labels[best], float(rows[position, best])
        begins, kind = label.startswith("B-"), label.removeprefix("B-").removeprefix("I-")
        if found and word == last_word and found[-1][3] == start:  # a further piece of a word has its first one's label
            found[-1] = (found[-1][0], found[-1][1], found[-1][2], end)
            continue
        last_word = None
        if kind == "O":
            continue
        gap = text[found[-1][3] : start] if found else "x"
        if found and not begins and found[-1][0] == kind and not gap.strip():
            found[-1] = (kind, [*found[-1][1], score], found[-1][2], end)
        else:
            found.append((kind, [score], start, end))
        last_word = word
    return [Entity(kind, sum(all_) / len(all_), start, end, text[start:end]) for kind, all_, start, end in found]


_ENDPOINTS: dict[str, Callable[[Pipeline], tuple[str, Callable[..., Any]]]] = {
    "text-classification": _text_classifier,
    "token-classification": _token_classifier,
    "embedding": _embedder,
    "image-classification": _image_classifier,
}
