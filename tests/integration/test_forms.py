"""curl -F: images, audio and fields beside them, as whoever has no client of ours sends them."""

import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

SOURCE = """
import setpoint as sp

class Looking(sp.Model):
    @sp.endpoint
    def describe(
        self, image: sp.Image, audio: sp.Audio, word: str, times: int = 1, more: list[bytes] = []
    ) -> list[str]:
        width, height = image.size()
        seconds = len(audio.array()) / audio.sample_rate_hz
        return [f"{width}x{height}", f"{audio.format} {seconds:g} s", word * times, *(str(len(one)) for one in more)]

    @sp.endpoint(batch=8)
    def widths(self, images: list[sp.Image]) -> list[int]:
        return [image.size()[0] for image in images]

    @sp.endpoint
    def stream(self, data: bytes) -> sp.Iterator[int]:
        yield from data

    @sp.endpoint
    def words(self, word: str) -> str:
        return word
""".replace("sp.Iterator", "__import__('typing').Iterator")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for width in (7, 9):
        Image.fromarray(np.zeros((5, width, 3), np.uint8)).save(tmp_path / f"{width}.png")
    soundfile.write(tmp_path / "a.flac", np.zeros((4000, 2), np.float32), 8000)
    (tmp_path / "data.bin").write_bytes(b"\x00\x0d\x0a\x2d\x2d")
    return tmp_path


def curl(folder: Path, url: str, *arguments: str) -> tuple[int, Any]:
    command = ["curl", "--silent", "--noproxy", "*", "--write-out", "\n%{http_code}", *arguments, url]
    ended = subprocess.run(command, capture_output=True, cwd=folder, check=True, timeout=60)
    body, _, status = ended.stdout.decode().rpartition("\n")
    return int(status), body if body.startswith("data:") else json.loads(body)


def test_a_form_of_files_and_fields(pack: Callable[..., str], serve: Callable[..., Any], files: Path) -> None:
    node = serve(pack(SOURCE, "looking"))
    url = f"http://127.0.0.1:{node.port}/models/looking"
    given = ("-F", "image=@7.png", "-F", "audio=@a.flac", "-F", "word=grüezi", "-F", "times=2")
    assert curl(files, f"{url}/describe", *given) == (200, ["7x5", "FLAC 0.5 s", "grüezigrüezi"])
    more = ("-F", "more=@data.bin", "-F", "more=@7.png;type=image/png")
    length = str((files / "7.png").stat().st_size)
    assert curl(files, f"{url}/describe", *given, *more)[1][3:] == ["5", length]
    assert curl(files, f"{url}/widths", "-F", "images=@7.png", "-F", "images=@9.png") == (200, [7, 9])
    status, events = curl(files, f"{url}/stream", "-F", "data=@data.bin")
    assert (status, [line for line in events.splitlines() if line]) == (
        200,
        [f"data: {n}" for n in (0, 13, 10, 45, 45)],
    )


def test_what_is_wrong_with_a_form_is_said(pack: Callable[..., str], serve: Callable[..., Any], files: Path) -> None:
    node = serve(pack(SOURCE, "looking"))
    url = f"http://127.0.0.1:{node.port}/models/looking"
    image, audio, word = ("-F", "image=@7.png"), ("-F", "audio=@a.flac"), ("-F", "word=x")
    form = ("-H", "content-type: multipart/form-data; boundary=b")
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(100, np.float32), 8000, format="FLAC")
    (files / "half.flac").write_bytes(buffer.getvalue()[:60])
    for endpoint, arguments, status, said in (
        ("describe", (*image, *audio), 400, "missing field 'word' in the form; expected image, audio, word"),
        ("describe", (*image, *audio, *word, "-F", "time=2"), 400, "unknown field 'time' in the form; expected image"),
        ("describe", (*image, *audio, *word, "-F", "times=two"), 400, "field 'times' of the form: "),
        ("describe", (*image, *word, "-F", "audio=@7.png"), 400, "field 'audio' of the form: expected a WAV"),
        ("describe", (*image, *word, "-F", "audio=@half.flac"), 400, "the FLAC audio is damaged"),
        ("describe", (*image, *image, *audio, *word), 400, "field 'image' comes 2 times in the form"),
        ("describe", (*form, "--data-binary", "--b\r\n"), 400, "part 1 of the form ends within its headers"),
        ("describe", ("-H", "content-type: multipart/form-data", "-d", "x"), 400, "no boundary"),
        ("words", word, 415, "expected application/json, got multipart/form-data"),
    ):
        found, answer = curl(files, f"{url}/{endpoint}", *arguments)
        assert (found, said in answer["error"]) == (status, True), answer
    assert curl(files, f"{url}/describe", *image, *audio, *word)[0] == 200
