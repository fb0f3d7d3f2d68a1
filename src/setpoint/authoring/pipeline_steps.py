"""The steps of a declared pipeline: texts to token ids, images to pixels, outputs to scores, vectors and spans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from setpoint.authoring.media import Image
from setpoint.authoring.pipeline import RESAMPLINGS, ImageSteps, TextSteps
from setpoint.core import DATATYPES, MissingExtra, ModelError, Signature

if TYPE_CHECKING:
    from PIL import Image as PillowImage


class Tokens:
    """Texts to arrays of token ids.

    Args:
        steps: as declared.
        path: of the tokenizer's file.
        signature: of the graph, which says the inputs it wants.

    Raises:
        MissingExtra: the library is not installed.
        ModelError: the file cannot be read, or the graph wants an input that no tokenizer makes.
    """

    def __init__(self, steps: TextSteps, path: Path, signature: Signature) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise MissingExtra("tokenizers", "text", "tokenising text") from error
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises Exception itself
            raise ModelError(f"{path.name} cannot be read: {' '.join(str(error).split())[:200]}") from error
        self._tokenizer.enable_truncation(steps.max_tokens)
        self._tokenizer.enable_padding(
            pad_id=steps.pad_id, pad_type_id=steps.pad_type_id, pad_token=steps.pad_token, direction="right"
        )
        self._prefix = steps.prefix
        self._wanted = {spec.name: DATATYPES[spec.datatype].dtype for spec in signature.inputs}
        if unknown := set(self._wanted) - {"input_ids", "attention_mask", "token_type_ids"}:
            raise ModelError(f"the graph wants {', '.join(sorted(unknown))}, which no tokenizer makes")

    def __call__(self, texts: Sequence[str]) -> tuple[dict[str, NDArray[Any]], list[Any]]:
        """The graph's inputs ``[texts, tokens]``, and the library's encodings, which know where tokens stand."""
        encodings = self._tokenizer.encode_batch([self._prefix + text for text in texts])
        columns = {
            "input_ids": [encoding.ids for encoding in encodings],
            "attention_mask": [encoding.attention_mask for encoding in encodings],
            "token_type_ids": [encoding.type_ids for encoding in encodings],
        }
        return {name: np.array(columns[name], dtype) for name, dtype in self._wanted.items()}, encodings


def raw_pixels(images: Sequence[Image], steps: ImageSteps) -> NDArray[np.uint8]:
    """Resized and cropped images as they are, uint8 ``[images, height, width, channels]``, for a fused graph.

    Raises:
        InvalidInput: an image is damaged or too large.
        MissingExtra: Pillow is not installed.
    """
    return np.stack([_bytes_of(image.pillow(), steps) for image in images])


def pixels(images: Sequence[Image], steps: ImageSteps) -> NDArray[np.float32]:
    """Pixel values of images, ``[images, channels, height, width]`` or with channels last.

    Raises:
        InvalidInput: an image is damaged or too large.
        MissingExtra: Pillow is not installed.
    """
    return np.stack([_pixels_of(image.pillow(), steps) for image in images])


def _bytes_of(picture: PillowImage.Image, steps: ImageSteps) -> NDArray[np.uint8]:
    picture = picture.convert("L" if steps.channels == "grey" else "RGB")
    if steps.resize:
        width, height = picture.size
        if len(steps.resize) == 1:  # the shorter edge; the other follows, rounded down as most libraries do
            shorter = steps.resize[0]
            size = (
                (shorter, int(shorter * height / width))
                if width <= height
                else (int(shorter * width / height), shorter)
            )
        else:
            size = (steps.resize[1], steps.resize[0])
        picture = picture.resize(size, RESAMPLINGS.index(steps.resample))
    if steps.crop:
        picture = _cropped(picture, steps.crop[0], steps.crop[1])
    values: NDArray[np.uint8] = np.asarray(picture, np.uint8)
    return values[..., None] if values.ndim == 2 else values


def _pixels_of(picture: PillowImage.Image, steps: ImageSteps) -> NDArray[np.float32]:
    values: NDArray[Any] = _bytes_of(picture, steps).astype(np.float32)
    if steps.channels == "bgr":
        values = values[..., ::-1]
    values = values * np.float32(steps.scale)
    if steps.mean:
        values = (values - np.array(steps.mean, np.float32)) / np.array(steps.std, np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1) if steps.layout == "nchw" else values)


def _cropped(picture: PillowImage.Image, height: int, width: int) -> PillowImage.Image:
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))  # Pillow fills what is outside with black


def scores(outputs: NDArray[Any], activation: str) -> NDArray[np.float64]:
    """Scores on the last axis."""
    values = np.asarray(outputs, np.float64)
    if activation == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-values)))
    if activation == "softmax":
        powers = np.exp(values - values.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
    return values


def pooled(vectors: NDArray[Any], mask: NDArray[Any], pooling: str, *, normalize: bool) -> NDArray[np.float32]:
    """One vector per text: of ``[texts, tokens, dimensions]`` the mean of visible tokens, or the first one."""
    if pooling == "mean" and vectors.ndim == 3:
        visible = mask[..., None].astype(np.float32)
        vectors = (vectors * visible).sum(axis=1) / np.maximum(visible.sum(axis=1), 1e-9)
    elif pooling == "cls" and vectors.ndim == 3:
        vectors = vectors[:, 0]
    if normalize:
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.asarray(vectors, np.float32)
