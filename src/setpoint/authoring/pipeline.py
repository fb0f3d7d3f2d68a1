"""A declared pipeline: what is done to a text or an image before a graph sees it, and to what comes out. Only records.

``pipeline.json`` beside a graph says it, so that nobody needs to write Python for the common cases; packing a Hugging
Face folder writes one. The steps themselves are in ``pipeline_steps.py``.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from setpoint.core import InvalidConfiguration

TASKS = ("text-classification", "token-classification", "embedding", "image-classification")
ACTIVATIONS = ("softmax", "sigmoid", "none")
POOLINGS = ("mean", "cls", "none")
RESAMPLINGS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""In the order of Pillow's numbers for them, which Hugging Face folders use."""
FUSED_OUTPUTS = ("setpoint_scores", "setpoint_positions")
"""What a fused graph gives: FP32 and INT64 [rows, labels], the best first."""
_TEXT_LIMIT = 1_000_000


class TextSteps(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How texts become token ids.

    Attributes:
        tokenizer: file of the ``tokenizers`` library beside this one.
        max_tokens: longer texts are cut.
        pad_id, pad_type_id, pad_token: what fills shorter texts of a batch.
        prefix: put before each text, as some embedders were trained with.
    """

    tokenizer: str = "tokenizer.json"
    max_tokens: int = 512
    pad_id: int = 0
    pad_type_id: int = 0
    pad_token: str = "[PAD]"  # noqa: S105  # not that kind of token
    prefix: str = ""


class ImageSteps(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How images become pixel values, in this order.

    Attributes:
        resize: ``[height, width]``, or one number for the shorter edge; empty for none.
        resample: how, one of ``RESAMPLINGS``.
        crop: ``[height, width]`` out of the middle, padded with black where the image is smaller; empty for none.
        scale: values 0 to 255 are multiplied by it.
        mean, std: by channel, taken off and divided by after scaling; empty for none.
        channels: ``rgb``, ``bgr`` or ``grey``.
        layout: ``nchw`` or ``nhwc``.
    """

    resize: tuple[int, ...] = ()
    resample: str = "bilinear"
    crop: tuple[int, ...] = ()
    scale: float = 1 / 255
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels: str = "rgb"
    layout: str = "nchw"


class Pipeline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A graph with what goes before and after it.

    Attributes:
        task: one of ``TASKS``.
        model: the graph's file beside this one.
        text: for tasks on texts.
        image: for tasks on images.
        output: name of the graph's output to read; the first without.
        labels: of classes by position.
        activation: what turns the output into scores, one of ``ACTIVATIONS``; ``none`` where the graph does.
        top_k: how many labels an answer lists, the best first; 0 for the best alone.
        pooling: how an embedding is made of one vector per token, one of ``POOLINGS``.
        normalize: an embedding has length 1.
        dimensions: numbers in an embedding.
        fused: the graph takes pixels as bytes and gives the best scores with their places: packing wrote it so.
    """

    task: str
    model: str = "model.onnx"
    text: TextSteps | None = None
    image: ImageSteps | None = None
    output: str = ""
    labels: tuple[str, ...] = ()
    activation: str = "softmax"
    top_k: int = 5
    pooling: str = "mean"
    normalize: bool = True
    dimensions: int = 0
    fused: bool = False

    def check(self, place: str) -> None:
        """Refuse what cannot be.

        Raises:
            InvalidConfiguration: the first thing that is wrong, and what is possible.
        """
        image_task = self.task == "image-classification"
        wrong = {
            f"task {self.task!r}: expected one of {', '.join(TASKS)}": self.task not in TASKS,
            f"activation {self.activation!r}: expected one of {', '.join(ACTIVATIONS)}": self.activation
            not in ACTIVATIONS,
            f"pooling {self.pooling!r}: expected one of {', '.join(POOLINGS)}": self.pooling not in POOLINGS,
            f"{self.task} needs {'image' if image_task else 'text'} steps": (self.image if image_task else self.text)
            is None,
            "a classifier needs labels": self.task.endswith("classification") and not self.labels,
            "an embedding needs dimensions": self.task == "embedding" and self.dimensions < 1,
            "top_k is 0 or more": self.top_k < 0,
        }
        if self.image is not None:
            wrong |= {
                f"resample {self.image.resample!r}: expected one of {', '.join(RESAMPLINGS)}": self.image.resample
                not in RESAMPLINGS,
                "resize is one or two lengths of 1 to 8192": not _lengths(self.image.resize, (0, 1, 2)),
                "crop is two lengths of 1 to 8192": not _lengths(self.image.crop, (0, 2)),
                "channels are rgb, bgr or grey": self.image.channels not in ("rgb", "bgr", "grey"),
                "layout is nchw or nhwc": self.image.layout not in ("nchw", "nhwc"),
                "mean and std have one number per channel": len(self.image.mean) != len(self.image.std)
                or len(self.image.mean) not in (0, 1, 3),
            }
        if self.text is not None:
            wrong["max_tokens is 1 to 1,000,000"] = not 1 <= self.text.max_tokens <= _TEXT_LIMIT
        if first := next((problem for problem, is_so in wrong.items() if is_so), None):
            raise InvalidConfiguration(f"{place}: {first}")


def read_pipeline(path: Path) -> Pipeline:
    """Read ``pipeline.json``.

    Raises:
        InvalidConfiguration: it cannot be read, or says something impossible.
    """
    try:
        pipeline = msgspec.json.decode(path.read_bytes(), type=Pipeline)
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidConfiguration(f"{path} cannot be read: {error}") from error
    pipeline.check(str(path))
    return pipeline


def _lengths(lengths: tuple[int, ...], counts: tuple[int, ...]) -> bool:
    return len(lengths) in counts and all(1 <= length <= 8192 for length in lengths)
