"""``Image`` and ``Audio``: encoded files that a request carries, decoded only when the model asks.

Their JSON form is a base64 string; as a raw body and as a V2 BYTES element they are the file's own bytes. What a file
is, its first bytes tell, so that a wrong one is refused before the model runs.
"""

from __future__ import annotations

import io
import wave
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
    raise ValueError(f"expected a JPEG, PNG or WebP image, got {_glimpse(data)}")


class Audio:
    """A WAV file of integer samples (8, 16, 24 or 32 bits PCM).

    Args:
        data: the file's bytes.

    Raises:
        ValueError: the bytes are not a WAV file.
    """

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
            raise ValueError(f"expected a WAV file (RIFF/WAVE), got {_glimpse(data)}")
        self.data = data

    @property
    def sample_rate_hz(self) -> int:
        """Frames per second.

        Raises:
            InvalidInput: damaged, or not PCM.
        """
        with self._open() as reader:
            return reader.getframerate()

    def array(self) -> NDArray[np.float32]:
        """Decode to float32 [frames, channels] between -1 and 1.

        Raises:
            InvalidInput: damaged, or not PCM.
        """
        with self._open() as reader:
            channels, width_bytes = reader.getnchannels(), reader.getsampwidth()
            data = reader.readframes(reader.getnframes())
        frame_bytes = channels * width_bytes
        samples = _pcm(data[: len(data) - len(data) % frame_bytes], width_bytes)
        return samples.reshape(-1, channels)

    def mono(self) -> NDArray[np.float32]:
        """Decode to float32 [frames], the mean of the channels.

        Raises:
            InvalidInput: damaged, or not PCM.
        """
        samples: NDArray[np.float32] = self.array().mean(axis=1, dtype=np.float32)
        return samples

    def _open(self) -> wave.Wave_read:
        try:
            reader = wave.open(io.BytesIO(self.data), "rb")  # noqa: SIM115  # the callers close it
        except (wave.Error, EOFError, ValueError, RuntimeError) as error:
            reason = str(error) or "it ends too early"
            raise InvalidInput(f"expected WAV with 8, 16, 24 or 32 bit PCM samples: {reason}") from error
        if reader.getsampwidth() not in (1, 2, 3, 4) or reader.getframerate() <= 0:
            raise InvalidInput(f"expected WAV with 8, 16, 24 or 32 bit PCM samples, got {reader.getparams()}")
        return reader

    def __repr__(self) -> str:
        return f"Audio({len(self.data)} bytes)"


def _pcm(data: bytes, width_bytes: int) -> NDArray[np.float32]:
    if width_bytes == 1:  # the only unsigned one
        return (np.frombuffer(data, np.uint8).astype(np.float32) - np.float32(128)) / np.float32(128)
    if width_bytes == 2:
        return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
    if width_bytes == 3:  # numpy has no 24-bit type: set each sample in the upper bytes of an int32
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        data = wide.tobytes()
    return (np.frombuffer(data, "<i4") / 2147483648).astype(np.float32)


def _glimpse(data: bytes) -> str:
    return f"{len(data)} bytes starting {data[:8]!r}" if data else "no bytes"
