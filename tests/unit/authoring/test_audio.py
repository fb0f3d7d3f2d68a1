"""Audio: decoded faithfully, never more of it than a limit, and whatever is sent instead is the client's mistake."""

import contextlib
import io
import subprocess
import sys
import wave

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import setpoint as sp
from setpoint.authoring import audio as limits
from setpoint.core import InvalidRequest

KINDS = [
    ("FLAC", "PCM_16", 1e-4),
    ("WAV", "FLOAT", 1e-6),
    ("WAV", "ULAW", 0.02),
    ("WAVEX", "PCM_16", 1e-4),
    ("OGG", "VORBIS", 0.1),
    ("OGG", "OPUS", 0.25),
]
SINE = np.stack([np.sin(np.arange(8000) * 0.05), -np.sin(np.arange(8000) * 0.05)], axis=1).astype(np.float32) / 2


def wav(samples: bytes, channels: int = 1, width_bytes: int = 2, rate_hz: int = 16000) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width_bytes)
        writer.setframerate(rate_hz)
        writer.writeframes(samples)
    return buffer.getvalue()


def compressed(kind: str, subtype: str, samples: np.ndarray = SINE, rate_hz: int = 16000) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=kind, subtype=subtype)
    return buffer.getvalue()


FLAC, VORBIS, FLOATS = compressed("FLAC", "PCM_16"), compressed("OGG", "VORBIS"), compressed("WAV", "FLOAT")


def silence(seconds: int, *, stated: bool = True, rate_hz: int = 16000) -> bytes:
    """A FLAC file of nothing, 3 kB a minute; its header says how long it is, or that nobody knows."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate_hz, 1, format="FLAC", subtype="PCM_16") as file:
        for _ in range(seconds):
            file.write(np.zeros(rate_hz, np.int16))
    data = bytearray(buffer.getvalue())
    if not stated:
        data[21] &= 0xF0  # 36 bits behind the block's head: the samples in the stream, 0 for unknown
        data[22:26] = bytes(4)
    return bytes(data)


@pytest.mark.parametrize(("width_bytes", "tolerance"), [(1, 1 / 127), (2, 1 / 32767), (3, 1e-6), (4, 1e-6)])
def test_wav_of_every_width_decodes_to_the_same_wave(width_bytes: int, tolerance: float) -> None:
    wanted = np.array([[0.0, 0.5], [-0.5, -1.0], [0.25, 0.99]])
    scaled = np.round(wanted * (2 ** (8 * width_bytes - 1))).astype(np.int64)
    if width_bytes == 1:
        samples = (scaled + 128).astype(np.uint8).tobytes()
    else:
        samples = b"".join(int(value).to_bytes(width_bytes, "little", signed=True) for value in scaled.ravel())
    audio = sp.Audio(wav(samples, channels=2, width_bytes=width_bytes, rate_hz=8000))
    assert audio.sample_rate_hz == 8000
    assert audio.array().dtype == np.float32
    np.testing.assert_allclose(audio.array(), wanted, atol=tolerance)
    np.testing.assert_allclose(audio.mono(), wanted.mean(axis=1), atol=tolerance)


@given(data=st.binary(max_size=120), keep=st.integers(0, 60))
def test_damaged_audio_is_the_clients_mistake(data: bytes, keep: int) -> None:
    try:
        audio = sp.Audio(wav(b"\0\1" * 8)[:keep] + data)
    except ValueError:
        return
    for ask in (audio.array, audio.mono, lambda: audio.sample_rate_hz):
        with contextlib.suppress(InvalidRequest):
            ask()


@pytest.mark.parametrize(("kind", "subtype", "tolerance"), KINDS)
def test_what_libsndfile_reads_decodes_to_the_wave_that_was_encoded(kind: str, subtype: str, tolerance: float) -> None:
    audio = sp.Audio(compressed(kind, subtype))
    assert (audio.format, audio.sample_rate_hz) == (kind.removesuffix("EX"), 16000)
    assert (audio.array().dtype, audio.array().shape) == (np.float32, (8000, 2))
    np.testing.assert_allclose(audio.array()[100:-100], SINE[100:-100], atol=tolerance)
    assert np.abs(audio.mono()).max() < tolerance


@pytest.mark.parametrize("stated", [True, False], ids=["by its header", "as it comes out"])
def test_hours_of_silence_in_kilobytes_are_refused(monkeypatch: pytest.MonkeyPatch, stated: bool) -> None:
    bomb = silence(90, stated=stated)
    assert len(bomb) < 8000
    assert len(sp.Audio(bomb).array()) == 90 * 16000
    monkeypatch.setattr(limits, "SAMPLES_LIMIT", 80 * 16000)
    with pytest.raises(sp.InvalidInput, match=r"more than 1,280,000 samples, which is the limit"):
        sp.Audio(bomb).array()
    monkeypatch.setattr(limits, "SAMPLES_LIMIT", 1 << 40)
    monkeypatch.setattr(limits, "SECONDS_LIMIT", 80)
    with pytest.raises(sp.InvalidInput, match="longer than 80 s"):
        sp.Audio(bomb).array()


def test_a_header_that_claims_years_is_refused_before_anything_is_decoded() -> None:
    data = bytearray(FLAC)
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4
    with pytest.raises(sp.InvalidInput, match=r"samples, which is the limit|damaged"):
        sp.Audio(bytes(data)).array()


def test_wav_has_the_same_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SAMPLES_LIMIT", 7)
    with pytest.raises(sp.InvalidInput, match="more than 7 samples"):
        sp.Audio(wav(bytes(16))).array()
    with pytest.raises(sp.InvalidInput, match="40 channels; 1 to 32 are accepted"):
        sp.Audio(wav(bytes(80), channels=40)).array()


@given(data=st.binary(max_size=120), kept=st.integers(0, 4000), of=st.sampled_from([FLAC, VORBIS, FLOATS]))
def test_damaged_flac_and_ogg_are_the_clients_mistake(data: bytes, kept: int, of: bytes) -> None:
    try:
        audio = sp.Audio(of[:kept] + data + of[kept + len(data) :])
    except ValueError:
        return
    for ask in (audio.array, lambda: audio.sample_rate_hz):
        with contextlib.suppress(InvalidRequest):
            ask()


def test_half_a_file_is_never_taken_for_a_whole_one() -> None:
    with pytest.raises(sp.InvalidInput, match="damaged") as caught:
        sp.Audio(FLAC[: len(FLAC) // 2]).array()
    assert "BytesIO" not in caught.value.message


def test_without_the_library_wav_is_decoded_and_flac_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    assert sp.Audio(wav(bytes(4))).array().shape == (2, 1)
    with pytest.raises(sp.InvalidInput, match=r"WAV of integers only, got FLAC; .* pip install 'setpoint\[audio\]'"):
        sp.Audio(FLAC).array()


def test_the_library_is_loaded_by_the_first_file_that_needs_it() -> None:
    script = "import sys, setpoint as sp; sp.Audio; sp.Model; assert 'soundfile' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
