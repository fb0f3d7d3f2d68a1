"""Put the composition into a folder: its Python steps, and the three networks of `rapidocr-onnxruntime`.

    python examples/ocr/build.py build/ocr

The networks are files inside that package (PP-OCRv4 detection and recognition, PP-OCR mobile v2.0 angle, Apache-2.0).
The package itself is not imported, and what it needs is not needed here. Two things are added to the recogniser: what
it takes is said (48 pixels high), and it picks the best of its 6,625 characters itself, so that a column is two numbers
on its way to the next step instead of 6,625.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
PACKAGE = "rapidocr-onnxruntime"
FILES = ("composition.json", "prepare.py", "cut.py", "spell.py", "pictures.py", "regions.py")
HEIGHT = 48


def models_folder() -> Path:
    """Where the package has its networks.

    Raises:
        SystemExit: it is not installed; says how.
    """
    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(f"{PACKAGE} is not installed: pip install --no-deps {PACKAGE}") from None
    return Path(str(package.locate_file("rapidocr_onnxruntime/models")))


def build(folder: Path, models: Path) -> Path:
    """Write everything; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(HERE / name, folder / name)
    shutil.copyfile(models / "ch_PP-OCRv4_det_infer.onnx", folder / "detect.onnx")
    angle = onnx.load(models / "ch_ppocr_mobile_v2.0_cls_infer.onnx")
    fix_axes(angle.graph.input[0], 2, (HEIGHT, 192))
    onnx.save(angle, folder / "angle.onnx")
    recogniser = onnx.load(models / "ch_PP-OCRv4_rec_infer.onnx")
    alphabet = next(entry.value for entry in recogniser.metadata_props if entry.key == "character")
    (folder / "alphabet.txt").write_text(alphabet, "utf-8")
    fix_axes(recogniser.graph.input[0], 2, (HEIGHT,))
    pick_best(recogniser.graph)
    onnx.save(recogniser, folder / "recognise.onnx")
    onnx.save(turner(), folder / "turn.onnx")
    return folder


def fix_axes(tensor: onnx.ValueInfoProto, first: int, lengths: tuple[int, ...]) -> None:
    """Say how long axes are that the file leaves open."""
    for axis, length in enumerate(lengths, start=first):
        tensor.type.tensor_type.shape.dim[axis].dim_value = length


def pick_best(graph: onnx.GraphProto) -> None:
    """Give the best character of each column, and how sure it is, in place of all of them."""
    (scores,) = (output.name for output in graph.output)
    graph.node.append(helper.make_node("ArgMax", [scores], ["ids"], axis=2, keepdims=0))
    graph.node.append(helper.make_node("ReduceMax", [scores], ["scores"], axes=[2], keepdims=0))
    del graph.output[:]
    for name, kind in (("ids", TensorProto.INT64), ("scores", TensorProto.FLOAT)):
        graph.output.append(helper.make_tensor_value_info(name, kind, ["lines", "columns"]))


def turner() -> onnx.ModelProto:
    """Turn lines by half a circle, each within its own width: what is behind a line's end stays there."""
    nodes = [
        helper.make_node("Shape", ["line"], ["axes"]),
        helper.make_node("Gather", ["axes", "three"], ["columns"]),
        helper.make_node("Range", ["zero", "columns", "one"], ["place"]),
        helper.make_node("Unsqueeze", ["width", "inner"], ["end"]),  # [lines, 1]
        helper.make_node("Sub", ["end", "one"], ["last"]),
        helper.make_node("Sub", ["last", "place"], ["mirrored"]),  # [lines, columns]
        helper.make_node("Less", ["place", "end"], ["inside"]),
        helper.make_node("Where", ["inside", "mirrored", "place"], ["wanted"]),
        helper.make_node("Sub", ["columns", "one"], ["most"]),
        helper.make_node("Min", ["wanted", "most"], ["at_most"]),
        helper.make_node("Max", ["at_most", "zero"], ["source"]),  # a width beyond the line is no reason to fail
        helper.make_node("Unsqueeze", ["source", "middle"], ["spread"]),
        helper.make_node("Shape", ["flipped"], ["whole"]),
        helper.make_node("Expand", ["spread", "whole"], ["index"]),
        helper.make_node("GatherElements", ["flipped", "index"], ["turned"], axis=3),
    ]
    nodes.insert(0, helper.make_node("Slice", ["line", "from", "to", "two", "back"], ["flipped"]))  # upside down
    constants = {"zero": 0, "one": 1, "three": 3, "inner": [1], "middle": [1, 2], "from": [-1], "to": [-(1 << 31)]}
    constants |= {"two": [2], "back": [-1]}
    axes: list[str | int] = ["lines", 3, HEIGHT, "columns"]
    graph = helper.make_graph(
        nodes,
        "turn",
        [
            helper.make_tensor_value_info("line", TensorProto.FLOAT, axes),
            helper.make_tensor_value_info("width", TensorProto.INT64, ["lines"]),
        ],
        [helper.make_tensor_value_info("turned", TensorProto.FLOAT, axes)],
        [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main() -> None:
    parser = argparse.ArgumentParser(description="Put the OCR composition into a folder, to be packed or served.")
    parser.add_argument("folder", type=Path)
    print(build(parser.parse_args().folder, models_folder()))


if __name__ == "__main__":
    main()
