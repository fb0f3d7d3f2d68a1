"""``Audio``: a WAV, FLAC or OGG file that a request carries, decoded only when the model asks.

WAV of integers is read by Python's own library. WAV of other samples, FLAC and OGG (Vorbis or Opus) are read by
libsndfile, piece by piece: the latter can hold hours of silence in a few kilobytes, and what their headers say of their
length need not be so.
"""

from __future__ import annotations

import contextlib
import io
import wave
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setpoint.authoring.invalid_input import InvalidInput
from setpoint.authoring.media import glimpse

SAMPLES_LIMIT = 48_000_000
"""Most samples of one file, all channels together (192 MB as float32)."""
SECONDS_LIMIT = 3600
"""Longest file."""
CHANNELS_LIMIT = 32
"""Most channels; OGG may declare 255."""
_PIECE_FRAMES = 1 << 16
_HEADER_BYTES = 1 << 12
_MARKS = {b"fLaC": "FLAC", b"OggS": "OGG"}
_CONTAINERS = {"WAV": ("WAV", "WAVEX"), "FLAC": ("FLAC",), "OGG": ("OGG",)}
_SAMPLES = {
    "WAV": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"),
    "OGG": ("VORBIS", "OPUS"),
}
_EXPECTED = "WAV of integers or floats, FLAC, or OGG with Vorbis or Opus"


class Audio:
    """A WAV file of integers (8, 16, 24 or 32 bits PCM).

    With ``setpoint[audio]`` also WAV of floats, extensible or of telephony's samples, FLAC, and OGG (Vorbis or Opus).

    Args:
        data: the file's bytes.

    Attributes:
        data: the same.
        format: ``WAV``, ``FLAC`` or ``OGG``.

    Raises:
        ValueError: the bytes are none of these formats.
    """

    __slots__ = ("data", "format")

    def __init__(self, data: bytes) -> None:
        self.format = _format(data)
        self.data = data

    @property
    def sample_rate_hz(self) -> int:
        """Frames per second.

        Raises:
            InvalidInput: damaged, of samples that are not read, or nothing here decodes it.
        """
        with self._open() as reader:
            rate_hz: int = reader.getframerate() if isinstance(reader, wave.Wave_read) else reader.samplerate
            return rate_hz

    def array(self) -> NDArray[np.float32]:
        """Decode to float32 [frames, channels] between -1 and 1.

        Raises:
            InvalidInput: damaged, of samples that are not read, above a limit, or nothing here decodes it.
        """
        with self._open() as reader:
            return _wav_samples(reader) if isinstance(reader, wave.Wave_read) else _samples(self.format, reader)

    def mono(self) -> NDArray[np.float32]:
        """Decode to float32 [frames], the mean of the channels.

        Raises:
            InvalidInput: damaged, of samples that are not read, above a limit, or nothing here decodes it.
        """
        samples: NDArray[np.float32] = self.array().mean(axis=1, dtype=np.float32)
        return samples

    def _open(self) -> contextlib.AbstractContextManager[Any]:
        return _open_wav(self.data) if _is_plain_wav(self.data) else _open_other(self.format, self.data)

    def __repr__(self) -> str:
        return f"Audio({self.format}, {len(self.data)} bytes)"


def _format(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "WAV"
    kind = _MARKS.get(data[:4])
    if kind is None:
        raise ValueError(f"expected a WAV (RIFF/WAVE), FLAC or OGG file, got {glimpse(data)}")
    return kind


def _check(frames: int, channels: int, rate_hz: int) -> None:
    """Refuse what is too much, before it is decoded where the header says so, and else as it comes out."""
    if not 0 < channels <= CHANNELS_LIMIT:
        raise InvalidInput(f"the audio has {channels} channels; 1 to {CHANNELS_LIMIT} are accepted")
    if frames * channels > SAMPLES_LIMIT:
        raise InvalidInput(f"the audio has more than {SAMPLES_LIMIT:,} samples, which is the limit")
    if frames > SECONDS_LIMIT * rate_hz:
        raise InvalidInput(f"the audio is longer than {SECONDS_LIMIT} s, which is the limit")


def _is_plain_wav(data: bytes) -> bool:
    """Whether Python's library reads its samples; says so of damaged files too, of which it says what is wrong."""
    if data[:4] != b"RIFF":
        return False
    at = data.find(b"fmt ", 12, _HEADER_BYTES)
    return at < 0 or data[at + 8 : at + 10] in (b"\x01\x00", b"")


def _open_wav(data: bytes) -> wave.Wave_read:
    try:
        reader = wave.open(io.BytesIO(data), "rb")  # noqa: SIM115  # the callers close it
    except (wave.Error, EOFError, ValueError, RuntimeError) as error:
        reason = str(error) or "it ends too early"
        raise InvalidInput(f"expected WAV with 8, 16, 24 or 32 bit PCM samples: {reason}") from error
    if reader.getsampwidth() not in (1, 2, 3, 4) or reader.getframerate() <= 0:
        raise InvalidInput(f"expected WAV with 8, 16, 24 or 32 bit PCM samples, got {reader.getparams()}")
    return reader


def _wav_samples(reader: wave.Wave_read) -> NDArray[np.float32]:
    channels, width_bytes = reader.getnchannels(), reader.getsampwidth()
    data = reader.readframes(reader.getnframes())  # never more than there are bytes, whatever the header says
    frame_bytes = channels * width_bytes
    frames = len(data) // frame_bytes
    _check(frames, channels, reader.getframerate())
    return _pcm(data[: frames * frame_bytes], width_bytes).reshape(-1, channels)


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


@contextlib.contextmanager
def _open_other(kind: str, data: bytes) -> Iterator[Any]:
    """A reader of libsndfile's, whose errors are the client's mistake."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the wheel for this machine has no library in it
        # Not MissingExtra: a client that sends FLAC to a service that reads WAV has to send something else.
        raise InvalidInput(
            f"this service decodes WAV of integers only, got {kind if kind != 'WAV' else 'WAV of other samples'};"
            " whoever runs it may pip install 'setpoint[audio]'"
        ) from error

    class Stream(soundfile.SoundFile):  # type: ignore[misc]  # the library is untyped
        """Read from its beginning to its end. Where it can seek, the library does so after each piece, and fails at the
        end of a stream that does not say how long it is."""

        def seekable(self) -> bool:
            """Not for us."""
            return False

    try:
        with Stream(io.BytesIO(data)) as reader:
            if reader.format not in _CONTAINERS[kind] or reader.subtype not in _SAMPLES.get(kind, (reader.subtype,)):
                raise InvalidInput(f"expected {_EXPECTED}; got {reader.format} {reader.subtype}")
            yield reader
    except (soundfile.SoundFileError, RuntimeError, ValueError, MemoryError) as error:
        said = " ".join(str(getattr(error, "error_string", error)).split())[:200]
        raise InvalidInput(f"the {kind} audio is damaged: {said}") from error


def _samples(kind: str, reader: Any) -> NDArray[np.float32]:
    channels, rate_hz = int(reader.channels), int(reader.samplerate)
    # An unknown length is stated as the largest there is; what is there, decoding tells.
    stated = int(reader.frames) if reader.frames < np.iinfo(np.int64).max else 0
    _check(stated, channels, rate_hz)
    pieces: list[NDArray[np.float32]] = []
    frames = 0
    while len(piece := reader.read(_PIECE_FRAMES, dtype="float32", always_2d=True)):
        frames += len(piece)
        _check(frames, channels, rate_hz)
        pieces.append(piece)
    if frames < stated:
        raise InvalidInput(f"the {kind} audio is damaged: it ends after {frames} of {stated} frames")
    return np.concatenate(pieces) if pieces else np.empty((0, channels), np.float32)
