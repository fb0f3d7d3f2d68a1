"""Images: decoded faithfully, and whatever is sent instead is the client's mistake."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

import setpoint as sp
from setpoint.authoring import decoder, media
from setpoint.core import InvalidRequest


def encoded(kind: str, size: tuple[int, int] = (7, 5), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    pixels = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(size[1], size[0], 3)
    options = {"lossless": True} if kind == "WEBP" else {}
    Pillow.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_images_decode_to_rgb(kind: str) -> None:
    image = sp.Image(encoded(kind))
    array = image.array()
    assert (array.shape, array.dtype) == ((5, 7, 3), np.uint8)
    assert image.size() == (7, 5)
    assert image.format == kind
    if kind != "JPEG":
        np.testing.assert_array_equal(array.ravel(), np.arange(7 * 5 * 3, dtype=np.uint8))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "I;16"])
def test_other_pixel_modes_become_rgb(mode: str) -> None:
    buffer = io.BytesIO()
    Pillow.new(mode, (4, 3)).save(buffer, "PNG")
    assert sp.Image(buffer.getvalue()).array().shape == (3, 4, 3)


def test_images_are_turned_upright() -> None:
    buffer = io.BytesIO()
    exif = Pillow.Exif()
    exif[0x0112] = 6  # turn right by 90 degrees to view
    Pillow.new("RGB", (8, 4)).save(buffer, "JPEG", exif=exif)
    image = sp.Image(buffer.getvalue())
    assert image.array().shape == (8, 4, 3)
    assert image.pillow().size == (4, 8)


def test_a_small_file_that_declares_billions_of_pixels_is_refused() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    for ask in (sp.Image(bomb).array, sp.Image(bomb).size):
        with pytest.raises(sp.InvalidInput):
            ask()


def test_the_pixel_limit_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "PIXEL_LIMIT", 34)
    with pytest.raises(sp.InvalidInput, match=r"7x5 pixels; at most 34"):
        sp.Image(encoded("PNG")).array()


@given(data=st.binary(max_size=200), kind=st.sampled_from(["PNG", "JPEG", "WEBP"]), keep=st.integers(0, 60))
def test_damaged_images_are_the_clients_mistake(data: bytes, kind: str, keep: int) -> None:
    try:
        image = sp.Image(encoded(kind)[:keep] + data)
    except ValueError:
        return
    with contextlib.suppress(InvalidRequest):
        assert image.array().shape[2] == 3


@pytest.mark.parametrize(
    ("annotation", "body", "message"),
    [
        (sp.Image, b'"YWJj"', "JPEG, PNG or WebP"),
        (sp.Image, b'""', "no bytes"),
        (sp.Image, b"3", "base64"),
        (sp.Image, b'"?"', "not base64"),
        (sp.Audio, b'"YWJj"', "WAV"),
    ],
)
def test_json_that_is_no_such_file_is_refused(annotation: type, body: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decoder(annotation).decode(body)
