"""Serve detection, rotation and recognition as one model, read rendered pages, and compare with rapidocr itself.

    python examples/ocr/run.py

Needs `pip install 'setpoint[images]'` and `pip install --no-deps rapidocr-onnxruntime` (its networks, 15 MB). For the
comparison the package with all that it needs (OpenCV, some 100 MB) is installed once into build/venvs/ocr-reference;
`--no-reference` leaves that out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from build import PACKAGE, build, models_folder
from cut import in_reading_order
from pages import Page, accuracy, page

import setpoint as sp

BUILD = Path(__file__).resolve().parents[2] / "build"
REFERENCE = BUILD / "venvs" / "ocr-reference"
LEAST_ACCURACY = 0.98
MOST_BEHIND = 0.005
AT_ONCE = 2
NEEDED = ["numpy", "onnxruntime", "opencv-python-headless", "pillow", "pyclipper", "PyYAML", "shapely", "six", "tqdm"]


def read_pages(service: sp.Service, pages: Sequence[Page]) -> list[list[str]]:
    """The lines of each page as the service reads them, several pages at once."""

    def read(one: Page) -> list[str]:
        return [str(line) for line in service.infer(image=one.pixels)["text"]]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(read, pages))


def reference_python() -> Path:
    """The Python of an environment with rapidocr, which is made when it is not there."""
    python = REFERENCE / "bin" / "python"
    ready = REFERENCE / "ready"  # written last: an interrupted installation is done again
    if not ready.exists():
        print("installing the reference (rapidocr, OpenCV) ...", flush=True)
        venv.create(REFERENCE, clear=True, with_pip=True)
        # Without what it asks for: that is the OpenCV with windows, which needs libraries that servers do not have.
        for packages in (["--no-deps", PACKAGE], NEEDED):
            subprocess.run([python, "-P", "-m", "pip", "install", "--quiet", *packages], check=True, cwd=REFERENCE)
        ready.touch()
    return python


def reference_lines(pages: Sequence[Page]) -> list[list[str]]:
    """The lines of each page as rapidocr reads them."""
    with tempfile.TemporaryDirectory() as folder:
        for number, one in enumerate(pages):
            np.save(Path(folder) / f"{number:04}.npy", one.pixels)
        command = [reference_python(), "-P", Path(__file__).with_name("reference.py"), folder]
        answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        raise SystemExit(f"the reference failed:\n{answer.stderr}")
    return [ordered(found) for found in json.loads(answer.stdout)]


def ordered(found: list[tuple[list[list[float]], str]]) -> list[str]:
    """Texts in the order in which ours come: by where their boxes are, not by rapidocr's rule for that."""
    texts = {str(quad): text for quad, text in found}
    return [texts[str(quad.tolist())] for quad in in_reading_order([np.array(quad) for quad, _ in found])]


def main() -> int:
    """Exit code 0 when the pages are read well and no worse than rapidocr reads them, else 1."""
    parser = argparse.ArgumentParser(description="Read rendered pages with a composition of three real networks.")
    parser.add_argument("--pages", type=int, default=6, help="how many (default 6); every third is upside down")
    parser.add_argument("--no-reference", action="store_true", help="do not compare with rapidocr itself")
    arguments = parser.parse_args()

    pages = [page(seed, turned=seed % 3 == 2) for seed in range(arguments.pages)]
    folder = build(BUILD / "ocr", models_folder())
    with sp.serve(folder) as service:
        began_s = time.monotonic()
        read = read_pages(service, pages)
        took_s = time.monotonic() - began_s
        print(f"served    {len(pages)} pages, {sum(map(len, read))} lines, {len(pages) / took_s:.1f} pages a second")
    own = [one.accuracy(lines) for one, lines in zip(pages, read, strict=True)]
    print(f"accuracy  {np.mean(own):.4f} of the characters, wanted {LEAST_ACCURACY}; worst page {min(own):.4f}")
    good = float(np.mean(own)) >= LEAST_ACCURACY
    if not arguments.no_reference:
        theirs = reference_lines(pages)
        other = [one.accuracy(lines) for one, lines in zip(pages, theirs, strict=True)]
        alike = [accuracy(lines, ours) for lines, ours in zip(theirs, read, strict=True)]
        print(f"rapidocr  {np.mean(other):.4f} of the characters; ours is {np.mean(alike):.4f} the same as theirs")
        good = good and float(np.mean(own)) >= float(np.mean(other)) - MOST_BEHIND
        for one, lines, ours in zip(pages, theirs, read, strict=True):
            if one.accuracy(lines) < LEAST_ACCURACY:
                print(f"  rapidocr {one.accuracy(lines):.3f}  read {lines}\n           ours  {ours}")
    for one, lines, share in zip(pages, read, own, strict=True):
        if share < LEAST_ACCURACY:
            print(f"  {share:.3f}  wanted {one.lines}\n         read   {lines}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
