"""``Image``: an encoded file that a request carries, decoded only when the model asks; ``Audio`` is the same for sound.

Their JSON form is a base64 string; as a raw body, as a part of a form and as a V2 BYTES element they are the file's own
bytes. What a file is, its first bytes tell, so that a wrong one is refused before the model runs.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from setpoint.authoring.invalid_input import InvalidInput
from setpoint.core import MissingExtra

if TYPE_CHECKING:
    from PIL import Image as PillowImage

PIXEL_LIMIT = 64_000_000
"""Most pixels of one image (64 megapixels are 192 MB as RGB). A 1 kB PNG can declare billions."""


class Image:
    """A JPEG, PNG or WebP file.

    Args:
        data: the file's bytes.

    Raises:
        ValueError: the bytes are none of these formats.
    """

    __slots__ = ("data", "format")

    def __init__(self, data: bytes) -> None:
        self.format = _image_format(data)
        self.data = data

    def array(self) -> NDArray[np.uint8]:
        """Decode to RGB: uint8 [height, width, 3], turned upright as the file's EXIF orientation says.

        Raises:
            InvalidInput: damaged, or above ``PIXEL_LIMIT``.
            MissingExtra: Pillow is not installed.
        """
        with self._open() as image:
            return np.array(_upright(image).convert("RGB"))

    def size(self) -> tuple[int, int]:
        """Width and height in pixels as stored, read from the header alone.

        Raises:
            InvalidInput: damaged, or above ``PIXEL_LIMIT``.
            MissingExtra: Pillow is not installed.
        """
        with self._open() as image:
            return image.size

    def pillow(self) -> PillowImage.Image:
        """The image as a loaded, upright Pillow image, for models that resize or crop with Pillow.

        Raises:
            InvalidInput: damaged, or above ``PIXEL_LIMIT``.
            MissingExtra: Pillow is not installed.
        """
        with self._open() as image:
            return _upright(image).copy()

    def _open(self) -> PillowImage.Image:
        require_pillow()
        from PIL import Image as pillow
        from PIL import UnidentifiedImageError

        bombs = (pillow.DecompressionBombError, pillow.DecompressionBombWarning)
        try:
            image = pillow.open(io.BytesIO(self.data), formats=(self.format,))
        except (UnidentifiedImageError, *bombs, OSError, ValueError, SyntaxError) as error:
            raise InvalidInput(f"the {self.format} image cannot be read: {error}") from error
        width, height = image.size
        if width * height > PIXEL_LIMIT:
            raise InvalidInput(f"the image has {width}x{height} pixels; at most {PIXEL_LIMIT:,} are accepted")
        return image

    def __repr__(self) -> str:
        return f"Image({self.format}, {len(self.data)} bytes)"


def require_pillow() -> None:
    """Check that images can be decoded here.

    Raises:
        MissingExtra: Pillow is not installed.
    """
    try:
        import PIL.Image  # noqa: F401  # asked for its presence
    except ImportError as error:
        raise MissingExtra("Pillow", "images", "decoding images") from error


def _upright(image: PillowImage.Image) -> PillowImage.Image:
    from PIL import ImageOps

    try:
        image.load()
        return ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # Pillow's decoders raise any of these
        raise InvalidInput(f"the image is damaged: {error}") from error


def _image_format(data: bytes) -> str:
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    raise ValueError(f"expected a JPEG, PNG or WebP image, got {glimpse(data)}")


def glimpse(data: bytes) -> str:
    """What somebody sent instead, for a message."""
    return f"{len(data)} bytes starting {data[:8]!r}" if data else "no bytes"
