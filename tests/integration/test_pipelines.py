"""A declared pipeline over HTTP: an image as the body or in JSON; what is no image is the client's mistake."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

from digits_files import DIGITS, NUMERALS, digits_graph


def test_an_image_comes_as_it_is(pack: Callable[..., str], serve: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    folder.mkdir()
    model = digits_graph()
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["rows", 1, 8, 8]))
    model.graph.node.insert(0, helper.make_node("Flatten", ["pixels"], ["image"], axis=1))
    onnx.save(model, folder / "model.onnx")
    image = {"resize": [8, 8], "resample": "box", "channels": "grey"}
    labels = [str(numeral) for numeral in range(10)]
    declared = {"task": "image-classification", "image": image, "labels": labels, "activation": "none", "top_k": 3}
    (folder / "pipeline.json").write_text(json.dumps(declared))
    node = serve(pack(folder, "digits"))
    buffer = io.BytesIO()
    large = np.kron(DIGITS[0].reshape(8, 8) * 255, np.ones((9, 9))).astype(np.uint8)
    Image.fromarray(large).save(buffer, "PNG")
    path = "/models/digits/classify"
    (raw,) = node.ask("POST", path, buffer.getvalue(), headers={"content-type": "image/png"}).json
    assert raw["label"] == str(NUMERALS[0])
    assert len(raw["scores"]) == 3
    encoded = base64.b64encode(buffer.getvalue()).decode()
    assert node.ask("POST", path, {"images": [encoded, encoded]}).json == [raw, raw]
    wrong = node.ask("POST", path, b"GIF89a", headers={"content-type": "image/gif"})
    assert (wrong.status, "expected a JPEG, PNG or WebP image" in wrong.error) == (400, True)
    form, kind = encode_form([("images", buffer.getvalue()), ("images", buffer.getvalue())])
    assert node.ask("POST", path, form, headers={"content-type": kind}).json == [raw, raw]


def encode_form(files: list[tuple[str, bytes]]) -> tuple[bytes, str]:
    request = httpx.Request("POST", "http://x", files=files)
    return request.read(), request.headers["content-type"]
