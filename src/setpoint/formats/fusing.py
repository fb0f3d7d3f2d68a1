"""Is a pipeline quicker with its arithmetic inside the graph, and does it answer alike? Proven, measured when packing.

Both forms are asked as a worker asks them. The fused one is used where every answer is the same and it pays; either way
the lineage says what was seen.
"""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from setpoint.authoring import FUSED_OUTPUTS, Image, Pipeline, Tokens, pixels, raw_pixels
from setpoint.core import ModelError, SetpointError, Signature
from setpoint.engines import EngineOptions, engine, load_onnx
from setpoint.formats import fused as fusion
from setpoint.formats.choice import Comparison, compare_speed, remembered
from setpoint.formats.equivalence import TOLERANCES, compare, tolerance_for

if TYPE_CHECKING:
    from setpoint.engines import PythonExecutable

SIZES = (1, 8)
"""Batches at which both are measured."""
MARGIN = 0.05
"""How much quicker a fused pipeline must be: what is declared is the simpler form."""
_ROWS = 12
_TIE = 1e-4
_WORDS = ("good", "bad", "day", "a", "the", "of", "very", "not", "never", "service", "late", "kind", "!", "7")


class Fused(msgspec.Struct, frozen=True):
    """What came of it.

    Attributes:
        told: a sentence for the lineage.
        graph: the fused graph; None where the pipeline stays as it is declared.
    """

    told: str
    graph: bytes | None = None


def try_fusing(pipeline: Pipeline, plain: Path, twin: Path, endpoint: str, entry: str) -> Fused:
    """Fuse, prove and measure.

    Args:
        pipeline: as declared.
        plain: folder of its bundle, which answers.
        twin: folder of the same files but for the graph and ``pipeline.json``, which are written here.
        endpoint: that its task has.
        entry: name of its class in ``model.py``.
    """
    made = fusion.fused(pipeline, plain / pipeline.model)
    if isinstance(made, str):
        return Fused(f"not fused with its graph: {made}")
    content = made.SerializeToString(deterministic=True)
    (twin / pipeline.model).write_bytes(content)
    (twin / "pipeline.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(pipeline, fused=True)))
    rows = made_up_rows(pipeline)
    first = second = None
    try:
        if problem := _differs_inside(pipeline, plain, twin, rows):
            return Fused(f"not fused with its graph: {problem}")
        first, second = (_load(folder, entry) for folder in (plain, twin))
        expected, given = (_answers(form, endpoint, pipeline, rows) for form in (first, second))
        if problem := _differs(expected, given):
            return Fused(f"not fused with its graph: {problem}")
        found = _measured(pipeline, plain, content, rows, endpoint, (first, second))
    except SetpointError as error:
        return Fused(f"not fused with its graph: {error.message}")
    finally:
        for form in (first, second):
            if form is not None:
                form.close()
    told = found.words("as declared", "fused with its graph")
    if found.ratio > 1 - MARGIN:
        return Fused(f"not fused with its graph, which answers alike on {len(rows)} rows and is hardly quicker: {told}")
    return Fused(f"fused with its graph: the same answers to {len(rows)} rows, and quicker: {told}", content)


def made_up_rows(pipeline: Pipeline) -> list[Any]:
    """Rows for the endpoint as JSON has them: PNG files of many sizes and tones, or texts of many lengths."""
    random = np.random.default_rng(0)
    if pipeline.image is None:
        lengths = random.integers(1, 24, _ROWS)
        return [" ".join(random.choice(_WORDS, length).tolist()) for length in lengths]
    from PIL import Image as Pillow

    # Images of several sizes share a batch only where the declared steps make them one size.
    one_size = bool(pipeline.image.crop) or len(pipeline.image.resize) == 2
    rows = []
    for _ in range(_ROWS):
        height, width = random.integers(16, 160, 2).tolist() if one_size else (64, 64)
        ramp = np.add.outer(np.linspace(0, 1, height), np.linspace(0, 1, width))[..., None]
        ramp = ramp * random.uniform(-120, 120, 3)
        tones = random.uniform(40, 215, 3) + ramp + random.normal(0, 20, (height, width, 3))
        buffer = io.BytesIO()
        Pillow.fromarray(tones.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
        rows.append(base64.b64encode(buffer.getvalue()).decode())
    return rows


def _differs_inside(pipeline: Pipeline, plain: Path, twin: Path, rows: list[Any]) -> str:
    """How the graphs' logits differ, empty where they do not: behind a softmax much looks alike."""
    bare = msgspec.structs.replace(pipeline, activation="none", top_k=len(pipeline.labels))
    made = fusion.fused(bare, plain / pipeline.model)
    assert not isinstance(made, str), "it was made before"
    place = (twin / pipeline.model).with_name("setpoint_proof.onnx")
    place.write_bytes(made.SerializeToString())
    try:
        source, converted = load_onnx(plain / pipeline.model, EngineOptions()), load_onnx(place, EngineOptions())
    finally:
        place.unlink()
    output = pipeline.output or source.outputs[0].name
    for some in (rows, rows[:1]):
        inputs = _inputs(pipeline, source, plain, some)
        expected = source.run(inputs[0])[output].reshape(len(some), -1)
        scores, positions = (converted.run(inputs[1])[name] for name in FUSED_OUTPUTS)
        given = np.zeros_like(scores)
        np.put_along_axis(given, positions, scores, axis=1)
        difference = compare(expected.astype(np.float32), given, tolerance_for(expected))
        if not difference.within:
            return f"it answers differently, {difference}"
    return ""


def _inputs(pipeline: Pipeline, source: Any, plain: Path, rows: list[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    if pipeline.image is not None:
        images = [Image(base64.b64decode(row)) for row in rows]
        (spec,) = source.inputs
        values = pixels(images, pipeline.image).astype(spec.spec.type.dtype)
        return {spec.name: values}, {fusion.PIXELS: raw_pixels(images, pipeline.image)}
    assert pipeline.text is not None
    takes = Signature(tuple(tensor.spec for tensor in source.inputs), (), batched=False)
    tokens, _ = Tokens(pipeline.text, plain / pipeline.text.tokenizer, takes)(rows)
    return tokens, tokens


def _load(folder: Path, entry: str) -> PythonExecutable:
    return engine("python").load(folder / "model.py", entry, EngineOptions())  # type: ignore[return-value]


def _answers(form: PythonExecutable, endpoint: str, pipeline: Pipeline, rows: list[Any]) -> list[Any]:
    (answer,) = form.call(endpoint, [_body(pipeline, rows)])
    if not answer.ok:
        raise ModelError(answer.message)
    answers: list[Any] = msgspec.json.decode(answer.body)
    return answers


def _body(pipeline: Pipeline, rows: list[Any]) -> bytes:
    return msgspec.json.encode({"texts" if pipeline.image is None else "images": rows})


def _differs(expected: list[Any], given: list[Any]) -> str:
    """How answers differ, empty where they do not. Labels that score alike may stand in either order."""
    for row, (one, other) in enumerate(zip(expected, given, strict=True)):
        scores, found = (_scores(answer) for answer in (one, other))
        difference = compare(scores, found, TOLERANCES["FP32"])
        if not difference.within:
            return f"row {row} scores differently, {difference}"
        for place, (label, same) in enumerate(zip(one["scores"], other["scores"], strict=True)):
            others = np.delete(scores, place)
            tied = others.size and np.abs(others - scores[place]).min() < _TIE
            if label["label"] != same["label"] and not tied and place + 1 < len(scores):
                return f"row {row}: {same['label']!r} in place of {label['label']!r}"
    return ""


def _scores(answer: dict[str, Any]) -> NDArray[np.float32]:
    return np.array([score["score"] for score in answer["scores"]], np.float32)


def _measured(
    pipeline: Pipeline, plain: Path, content: bytes, rows: list[Any], endpoint: str, forms: tuple[Any, Any]
) -> Comparison:
    bodies = {size: [_body(pipeline, rows[:size])] for size in SIZES}
    digests = [hashlib.sha256(part).hexdigest() for part in ((plain / pipeline.model).read_bytes(), content)]
    first, second = forms
    return remembered(
        [*digests, msgspec.json.encode(pipeline).decode()],
        lambda: compare_speed(
            lambda size: first.call(endpoint, bodies[size]), lambda size: second.call(endpoint, bodies[size]), SIZES
        ),
    )
