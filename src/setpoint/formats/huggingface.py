"""Hugging Face folders on disk: what ``save_pretrained`` writes, with the tokenizer or the preprocessing taken along.

Text classification, token classification, embeddings and image classification become a declared pipeline around an
ONNX graph: the folder's own ``model.onnx`` where it has one, else one exported from its weights and proven. Nothing is
fetched, and code that a folder brings along is never run.
"""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import msgspec

from setpoint.authoring import RESAMPLINGS, ImageSteps, Pipeline, TextSteps
from setpoint.core import InvalidConfiguration, Lineage
from setpoint.formats.base import PackedModel, PackOptions
from setpoint.formats.onnx import external_weights, is_model
from setpoint.formats.pipeline import PIPELINE_FILE, graph_outputs, pack_pipeline
from setpoint.formats.tensor_model import ARTIFACT, source_digest

_GRAPHS = ("model.onnx", "onnx/model.onnx")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_TASKS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForImageClassification": "image-classification",
}
_GENERATIVE = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel", "ForSpeechSeq2Seq")
_OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet", "longformer"})
_JSON_LIMIT_BYTES = 64 << 20
_MOST_TOKENS = 512


class HuggingfaceFormat:
    """A folder with ``config.json`` of the transformers library and weights or a graph."""

    name = "huggingface"

    def recognises(self, source: Path) -> bool:
        """Whether the folder's ``config.json`` names a model type, and weights lie beside it."""
        config = source / "config.json"
        if not config.is_file() or config.stat().st_size > _JSON_LIMIT_BYTES:
            return False
        try:
            content = json.loads(config.read_bytes())
        except (ValueError, RecursionError):
            return False
        named = isinstance(content, dict) and ("model_type" in content or "architectures" in content)
        return named and any((source / name).exists() for name in (*_GRAPHS, *_WEIGHTS))

    def pack(self, source: Path, options: PackOptions, workdir: Path) -> PackedModel:
        """Make a pipeline of the folder.

        Raises:
            MissingExtra: torch or transformers is needed for the export, tokenizers or Pillow to serve.
            InvalidConfiguration: a task that is not served, a missing file, code of its own, or no exact export.
        """
        config = read_json(source / "config.json")
        task = _task(source, config)
        text = _text_steps(source, config) if task != "image-classification" else None
        image = _image_steps(source) if task == "image-classification" else None
        graph = next((source / name for name in _GRAPHS if is_file_model(source / name)), None)
        tools: dict[str, str] = {}
        if graph is None:
            from setpoint.formats.huggingface_export import export  # needs torch, unlike folders with a graph

            graph, checks, tools = export(source, task, text, image, workdir)
        else:
            checks = (f"{graph.relative_to(source)} of the folder, as it is",)
        pipeline = _pipeline(source, config, task, text, image, graph)
        (workdir / PIPELINE_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(pipeline)))
        files = {PIPELINE_FILE: workdir / PIPELINE_FILE, ARTIFACT: graph, **external_weights(graph)}
        if text is not None:
            files["tokenizer.json"] = source / "tokenizer.json"
        tools |= {"onnxruntime": importlib.metadata.version("onnxruntime")}
        lineage = Lineage(self.name, source_digest(source), tools, checks)
        return pack_pipeline(pipeline, files, lineage, workdir, source.resolve().name)


def is_file_model(path: Path) -> bool:
    """Whether there is an ONNX model at a path."""
    return path.is_file() and is_model(path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of the folder; empty where there is no such file.

    Raises:
        InvalidConfiguration: it cannot be read.
    """
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > _JSON_LIMIT_BYTES:
            raise ValueError("it is larger than any configuration")
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise InvalidConfiguration(f"{path} cannot be read: {error}") from error
    return content if isinstance(content, dict) else {}


def _task(source: Path, config: dict[str, Any]) -> str:
    if "auto_map" in config:
        raise InvalidConfiguration(f"{source} brings Python of its own (auto_map), which is not run; export it to ONNX")
    names = [str(name) for name in config.get("architectures") or ()]
    architecture = names[0] if names else ""
    for suffix, task in _TASKS.items():
        if architecture.endswith(suffix):
            return task
    if architecture.endswith(_GENERATIVE):
        raise InvalidConfiguration(f"{source} holds a {architecture}, which needs the language-model engine")
    if architecture.endswith("Model") or (source / "modules.json").is_file():
        return "embedding"
    raise InvalidConfiguration(
        f"{source} holds a {architecture or 'model of no stated architecture'}; served are text, token and image"
        " classification and embeddings. Export it to ONNX, or wrap it in a Python class"
    )


def _text_steps(source: Path, config: dict[str, Any]) -> TextSteps:
    if not (source / "tokenizer.json").is_file():
        raise InvalidConfiguration(
            f"{source} has no tokenizer.json: save a fast tokenizer into it,"
            " AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    settings = read_json(source / "tokenizer_config.json")
    limits = [settings.get("model_max_length"), config.get("max_position_embeddings")]
    if config.get("model_type") in _OFFSET_POSITIONS and isinstance(limits[1], int):
        limits[1] -= int(config.get("pad_token_id") or 0) + 1  # their positions begin after the padding's
    limits.append(read_json(source / "sentence_bert_config.json").get("max_seq_length"))
    known = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < 1_000_000]
    token = settings.get("pad_token") or "[PAD]"
    token = str(token.get("content", "[PAD]")) if isinstance(token, dict) else str(token)
    pad_id = config.get("pad_token_id")
    return TextSteps(
        max_tokens=min(known or [_MOST_TOKENS]),
        pad_id=int(pad_id) if isinstance(pad_id, int) else 0,
        pad_type_id=int(settings.get("pad_token_type_id") or 0),
        pad_token=token,
    )


def _image_steps(source: Path) -> ImageSteps:
    settings = read_json(source / "preprocessor_config.json")
    if not settings:
        raise InvalidConfiguration(f"{source} has no preprocessor_config.json, which says how images are prepared")
    size, crop = settings.get("size"), settings.get("crop_size")
    resample = settings.get("resample", 2)
    if not isinstance(resample, int) or not 0 <= resample < len(RESAMPLINGS):
        raise InvalidConfiguration(f"{source}: resample {resample!r} is no resampling of Pillow's")
    normalize = settings.get("do_normalize", True)
    return ImageSteps(
        resize=_lengths(source, size) if settings.get("do_resize", True) else (),
        resample=RESAMPLINGS[resample],
        crop=_square(_lengths(source, crop)) if settings.get("do_center_crop", False) else (),
        scale=float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else 1.0,
        mean=tuple(settings.get("image_mean") or (0.5, 0.5, 0.5)) if normalize else (),
        std=tuple(settings.get("image_std") or (0.5, 0.5, 0.5)) if normalize else (),
    )


def _lengths(source: Path, size: Any) -> tuple[int, ...]:
    if isinstance(size, int):
        return (size, size)
    if isinstance(size, dict) and {"height", "width"} <= size.keys():
        return (int(size["height"]), int(size["width"]))
    if isinstance(size, dict) and "shortest_edge" in size and "longest_edge" not in size:
        return (int(size["shortest_edge"]),)
    raise InvalidConfiguration(f"{source}: a size of {size!r} is not one that is declared; expected height and width")


def _square(lengths: tuple[int, ...]) -> tuple[int, ...]:
    return lengths * 2 if len(lengths) == 1 else lengths


def _pipeline(
    source: Path,
    config: dict[str, Any],
    task: str,
    text: TextSteps | None,
    image: ImageSteps | None,
    graph: Path,
) -> Pipeline:
    outputs = graph_outputs(graph)
    if task == "embedding":
        return _embedding(source, text, outputs)
    named = config.get("id2label") or {}
    labels = tuple(str(named[key]) for key in sorted(named, key=int))
    multiple = config.get("problem_type") == "multi_label_classification"
    activation = "sigmoid" if multiple else "none" if len(labels) == 1 else "softmax"
    output = "logits" if "logits" in outputs else next(iter(outputs))
    return Pipeline(task, ARTIFACT, text, image, output=output, labels=labels, activation=activation)


def _embedding(source: Path, text: TextSteps | None, outputs: dict[str, Any]) -> Pipeline:
    modules = (source / "modules.json").is_file()
    kinds = (
        [str(module.get("type", "")) for module in json.loads((source / "modules.json").read_bytes())]
        if modules
        else []
    )
    settings = read_json(source / "1_Pooling" / "config.json")
    pooling = "cls" if settings.get("pooling_mode_cls_token") else "mean"
    known = {"pooling_mode_cls_token", "pooling_mode_mean_tokens"}
    if any(value is True for name, value in settings.items() if name.startswith("pooling_mode") and name not in known):
        raise InvalidConfiguration(f"{source}: its pooling is neither the mean of the tokens nor the first one")
    if any(kind.endswith(".Dense") for kind in kinds):
        raise InvalidConfiguration(f"{source}: it has a dense layer after the pooling, which no pipeline declares")
    output = next(
        (name for name in ("sentence_embedding", "last_hidden_state") if name in outputs), next(iter(outputs))
    )
    dimensions = outputs[output][-1]
    if not isinstance(dimensions, int):
        raise InvalidConfiguration(f"{source}: its graph does not say how long an embedding is")
    return Pipeline(
        "embedding",
        ARTIFACT,
        text,
        output=output,
        pooling="none" if output == "sentence_embedding" else pooling,
        normalize=any(kind.endswith(".Normalize") for kind in kinds) if kinds else True,
        dimensions=dimensions,
    )
