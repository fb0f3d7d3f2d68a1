"""Three real networks as one model: pages of rendered text are read, upside down too."""

import importlib.util
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from harness import RunningNode

if importlib.util.find_spec("rapidocr_onnxruntime") is None:
    pytest.skip("the networks: make .venv/.ready-ocr", allow_module_level=True)
sys.path.append(str(Path(__file__).resolve().parents[2] / "examples" / "ocr"))

from build import build, models_folder
from pages import Page, page

pytestmark = pytest.mark.slow


def read(node: RunningNode, page: Page) -> tuple[list[str], str]:
    """The lines of a page, and what the steps took."""
    shape = page.pixels.shape
    image = {
        "name": "image",
        "datatype": "UINT8",
        "shape": shape,
        "parameters": {"binary_data_size": page.pixels.nbytes},
    }
    head = json.dumps({"inputs": [image], "outputs": [{"name": "text"}]}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    answer = node.ask("POST", "/v2/models/ocr/infer", head + page.pixels.tobytes(), 300, headers)
    assert answer.status == 200, answer.body
    return answer.json["outputs"][0]["data"], answer.body.decode()


def test_pages_are_read_whichever_way_up(
    pack: Callable[..., str], serve: Callable[..., RunningNode], tmp_path: Path
) -> None:
    folder = build(tmp_path / "ocr", models_folder())
    node = serve.unready(pack(folder, "ocr"), limits={"request_timeout_s": 300, "run_timeout_s": 300})  # type: ignore[attr-defined]
    node.until_ready(300)
    # The third, since of others the angle network misses a line, in rapidocr too: it is no judge of our steps.
    pages = [page(seed, turned=seed == 2) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda one: read(node, one), pages))
    accuracies = [one.accuracy(lines) for one, (lines, _) in zip(pages, answers, strict=True)]
    assert np.mean(accuracies) >= 0.98, answers
    rows = node.metric("setpoint_batch_rows_sum", model="ocr/turn")
    assert rows >= len(pages[2].lines), "the lines of the turned page, and hardly any other, were turned"
    assert rows < sum(len(one.lines) for one in pages)
    blank = Page(np.full((200, 300, 3), 255, np.uint8), [])
    assert read(node, blank)[0] == [], "no box, no line, no text"
    narrow = Page(np.zeros((2, 300, 3), np.uint8), [])
    with pytest.raises(AssertionError, match="expected sides of 4 pixels or more, and 20:1 at most; got 300"):
        read(node, narrow)
