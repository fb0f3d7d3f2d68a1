"""From a Hugging Face folder's weights to an ONNX graph: exported, proven, its preprocessing compared with theirs."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from setpoint.authoring import Image, ImageSteps, TextSteps, Tokens, pixels
from setpoint.core import ConversionMismatch, InvalidConfiguration, MissingExtra, ModelError, Signature, TensorSpec
from setpoint.engines import Arrays, one_line
from setpoint.formats.torch_export import Exported, pack_program, tensors_of

_CLASSES = {
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "image-classification": "AutoModelForImageClassification",
    "embedding": "AutoModel",
}
_TEXTS = (
    "A short text.",
    "Grüezi! Two sentences, some numbers (3.14), and a word that no vocabulary holds: xqzzyfloop.",
    "",
    "UPPER lower  spaces\tand\nlines",
)
_TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def export(
    source: Path, task: str, text: TextSteps | None, image: ImageSteps | None, workdir: Path
) -> tuple[Path, tuple[str, ...], dict[str, str]]:
    """Export and prove.

    Returns:
        the graph, what was compared, and versions of what made it.

    Raises:
        MissingExtra: torch or transformers is not installed.
        InvalidConfiguration: it cannot be loaded or exported.
        ConversionMismatch: the graph or the preprocessing differs from theirs.
    """
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingExtra("torch and transformers", "torch", f"exporting {source.name}") from error
    transformers.logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loader = getattr(transformers, _CLASSES[task])
            # Eager attention has the plainest graph; nothing is fetched and no code of the folder's is run.
            model = loader.from_pretrained(
                str(source), local_files_only=True, trust_remote_code=False, attn_implementation="eager"
            )
    except Exception as error:  # the library raises whatever it meets
        raise InvalidConfiguration(f"{source} cannot be loaded by transformers: {one_line(error)}") from error
    model = model.float().eval()
    checks = [_compare_texts(source, text)] if text is not None else [_compare_images(source, image)]
    examples = _text_examples(source, text, model) if text is not None else _image_examples(image)
    field = "last_hidden_state" if task == "embedding" else "logits"
    head = _head(torch, model, list(examples), field)
    packed = pack_program(_exported(torch, head, examples, field, free_axes=2 if text is not None else 1), workdir)
    if packed.engine != "onnxruntime":
        raise ConversionMismatch(f"{source}: {packed.checks[0]}; wrap it in a Python class to serve it with torch")
    return packed.file, (*checks, *packed.checks), {**packed.tools, "transformers": transformers.__version__}


def _head(torch: Any, model: Any, names: list[str], field: str) -> Any:
    """A module of tensors only: of the model's many answers the one that is read, by its name."""

    class Head(torch.nn.Module):  # type: ignore[misc]  # torch is no type here
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: Any) -> dict[str, Any]:
            return {field: getattr(self.model(**dict(zip(names, tensors, strict=True))), field)}

    return Head().eval()


def _exported(torch: Any, head: Any, examples: dict[str, Any], field: str, *, free_axes: int) -> Exported:
    from setpoint.engines import torch as engine

    names, tensors = list(examples), tuple(torch.from_numpy(array) for array in examples.values())
    free = dict.fromkeys(range(free_axes), torch.export.Dim.DYNAMIC)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(head, tensors, dynamic_shapes=(tuple(dict(free) for _ in names),))
    except Exception as error:  # the exporter raises whatever it meets
        raise InvalidConfiguration(f"the model cannot be exported: {one_line(error)}") from error
    declared = tensors_of(program)

    def run(arrays: Arrays) -> dict[str, Any]:
        try:
            with torch.inference_mode():
                answer = head(*(engine.to_tensor(arrays[name]) for name in names))
        except Exception as error:  # the model's own code
            raise ModelError(f"the model failed: {one_line(error)}") from error
        return engine.named_outputs(answer)

    # Exported positional arguments are called args_0 and so on; the graph's inputs get the model's own names.
    import msgspec

    renamed = tuple(msgspec.structs.replace(one, name=name) for one, name in zip(declared, names, strict=True))
    return Exported(program, run, examples, renamed, "tokenised texts" if free_axes == 2 else "made-up images")


def _tokens(source: Path, text: TextSteps, names: list[str]) -> Tokens:
    specs = tuple(TensorSpec(name, "INT64", (-1, -1)) for name in names)
    return Tokens(text, source / text.tokenizer, Signature(specs, (), batched=True))


def _text_examples(source: Path, text: TextSteps, model: Any) -> dict[str, Any]:
    takes = inspect.signature(model.forward).parameters
    inputs, _ = _tokens(source, text, [name for name in _TEXT_INPUTS if name in takes])(_TEXTS[:2])
    return inputs


def _image_examples(image: ImageSteps | None) -> dict[str, Any]:
    assert image is not None
    height, width = (image.crop or image.resize * 2)[:2] if image.crop or image.resize else (224, 224)
    random = np.random.default_rng(0)
    return {"pixel_values": random.standard_normal((2, 3, height, width)).astype(np.float32)}


def _compare_texts(source: Path, text: TextSteps) -> str:
    import transformers

    theirs = transformers.AutoTokenizer.from_pretrained(str(source), local_files_only=True, trust_remote_code=False)
    settings = {"padding": True, "truncation": True, "max_length": text.max_tokens, "return_tensors": "np"}
    expected = theirs(list(_TEXTS), **settings)
    given, _ = _tokens(source, text, list(expected))(_TEXTS)
    for name, array in expected.items():
        if array.shape != given[name].shape or not np.array_equal(array, given[name]):
            raise ConversionMismatch(
                f"{source}: tokenizer.json makes other {name} than transformers does; save the tokenizer again"
            )
    return f"tokens are those of transformers ({len(_TEXTS)} texts: {', '.join(expected)})"


def _compare_images(source: Path, image: ImageSteps | None) -> str:
    import io

    import transformers
    from PIL import Image as pillow

    assert image is not None
    theirs = transformers.AutoImageProcessor.from_pretrained(
        str(source), local_files_only=True, trust_remote_code=False, backend="pil"
    )
    random = np.random.default_rng(0)
    worst = 0.0
    for height, width in ((40, 30), (97, 131), (300, 260)):
        picture = pillow.fromarray(random.integers(0, 256, (height, width, 3)).astype(np.uint8))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        expected = np.asarray(theirs(picture, return_tensors="np")["pixel_values"])
        given = pixels([Image(buffer.getvalue())], image)
        if expected.shape != given.shape:
            raise ConversionMismatch(
                f"{source}: images of {width}x{height} become {list(given.shape)} here and {list(expected.shape)} in"
                " transformers"
            )
        worst = max(worst, float(np.abs(expected - given).max()))
    if worst > 1e-4:
        raise ConversionMismatch(f"{source}: prepared images differ from transformers' by up to {worst:.3g}")
    return "prepared images are those of transformers (3 sizes)"
