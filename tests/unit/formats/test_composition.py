"""A composition is judged when it is packed: each mistake is one line that names the step."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from composition_files import composition, label, scale, total
from setpoint.core import (
    FREE,
    Composition,
    ConfigurationError,
    InvalidConfiguration,
    ModelManifest,
    Signature,
    TensorSpec,
)
from setpoint.formats import PackOptions, pack, recognise
from setpoint.formats.composition_file import Declared, DeclaredStep, check, in_order
from setpoint.formats.composition_types import typed

ROWS = (FREE, 2)
TEXT = """
import setpoint as sp

class Text(sp.Model):
    @sp.endpoint
    def ask(self, x: dict[str, int]) -> str: ...
"""


def signature(inputs: Mapping[str, Any], outputs: Mapping[str, Any], *, batched: bool = True) -> Signature:
    def specs(tensors: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(name, *said) for name, said in tensors.items())

    return Signature(specs(inputs), specs(outputs), batched)


PARTS = {
    "double": signature({"x": ("FP32", ROWS)}, {"y": ("FP32", ROWS)}),
    "wide": signature({"x": ("FP32", (FREE, 3))}, {"y": ("FP32", (FREE, 3))}),
    "half": signature({"x": ("FP32", ROWS)}, {"y": ("FP64", ROWS)}),
    "judge": signature({"x": ("FP32", ROWS)}, {"score": ("FP32", (FREE, 1)), "word": ("BYTES", (FREE,))}),
    "label": signature({"x": ("FP32", ROWS)}, {"label": ("INT64", (FREE,))}),
    "find": signature({"x": ("FP32", ROWS)}, {"found": ("FP32", ROWS), "of": ("INT64", (FREE,))}, batched=False),
    "sum": signature({"x": ("FP32", ROWS)}, {"one": ("FP32", (1,))}, batched=False),
    "two": signature({"a": ("FP32", ROWS), "b": ("FP32", ROWS)}, {"y": ("FP32", ROWS)}),
    "free": signature({"x": ("FP32", (FREE, FREE))}, {"y": ("FP32", (FREE, FREE))}),
}


def step(name: str, model: str, when: Mapping[str, Any] | None = None, **inputs: str) -> dict[str, Any]:
    return {"name": name, "model": model, "inputs": inputs, **({"when": when} if when else {})}


def judged(steps: list[dict[str, Any]], outputs: Mapping[str, str], inputs: tuple[str, ...] = ("x",)) -> Any:
    read = msgspec.convert({"inputs": inputs, "steps": steps, "outputs": outputs}, Declared)
    check(read)
    return typed(read, {one.name: (one.name, PARTS[one.model]) for one in read.steps if one.model})


A, B = step("a", "double", x="x"), step("b", "double", x="a")
JUDGE = step("judge", "judge", x="x")


def high(**more: Any) -> dict[str, Any]:
    return step("high", "double", {"of": "judge.score", "above": 0.5, **more}, x="x")


def test_what_the_whole_takes_and_gives_follows_from_the_steps() -> None:
    whole = judged([B, A], {"result": "b"})
    assert [one.name for one in whole.steps] == ["a", "b"], "in an order in which they can run"
    assert str(whole.signature) == "x FP32[-1, 2] → result FP32[-1, 2]"
    assert whole.signature.batched
    assert not judged([step("f", "find", x="x"), step("d", "double", x="f.found")], {"y": "d"}).signature.batched
    narrowed = judged([step("f", "free", x="x"), A], {"y": "f", "z": "a"})
    assert narrowed.signature.inputs[0].shape == ROWS, "what all that take it can take"
    both = judged([A, {"name": "both", "concat": ["a", "x"]}], {"y": "both"})
    assert both.signature.outputs[0].shape == (FREE, 4)


@pytest.mark.parametrize(
    ("steps", "outputs", "said"),
    [
        ([A, step("c", "double", x="e"), step("d", "double", x="c"), step("e", "double", x="d")], {"y": "a", "z": "e"},
         "steps go in a circle: d → e → c → d"),
        ([step("a", "double", x="a")], {"y": "a", "z": "x"}, "steps go in a circle: a → a"),
        ([A], {"y": "aa"}, "output 'y': no step or input is called 'aa'; did you mean 'a'?"),
        ([A, B], {"y": "a"}, "nothing uses b: take it away, or use what it gives"),
        ([A, A], {"y": "a"}, "two steps or inputs are called 'a'"),
        ([step("A b", "double", x="x")], {"y": "A b"}, "'A b' is no name of a step or input"),
        ([step("a", "double")], {"y": "a", "z": "x"}, "step 'a': its model needs inputs"),
        ([{"name": "a"}], {"y": "a", "z": "x"}, "step 'a': expected one of model, mean, vote, concat, choose"),
        ([A, {"name": "m", "mean": ["a"]}], {"y": "m"}, "step 'm': mean takes 2 to 64 tensors, got 1"),
        ([A, {"name": "m", "mean": ["a", "x"], "weights": [1]}], {"y": "m"}, "step 'm': 2 tensors and 1 weights"),
        ([A, {"name": "m", "mean": ["a", "x"], "weights": [1, 0]}], {"y": "m"}, "weights are numbers above 0"),
        ([A, {"name": "m", "choose": ["a", "x"], "weights": [1, 1]}], {"y": "m"}, "weights are for mean and vote"),
        ([step("a", "double", y="x")], {"y": "a"}, "step 'a': its model takes x FP32[-1, 2]; given are y"),
        ([A, step("w", "wide", x="a")], {"y": "w"}, "step 'w': its model takes x FP32[-1, 3], and a is FP32[-1, 2]"),
        ([step("h", "half", x="x"), step("d", "double", x="h")], {"y": "d"},
         "step 'd': its model takes x FP32[-1, 2], and h is FP64[-1, 2]"),
        ([A, step("w", "wide", x="x")], {"y": "a", "z": "w"},
         "input 'x': a takes it as FP32[-1, 2], and w takes it as FP32[-1, 3]"),
        ([A, {"name": "m", "vote": ["a", "a"]}], {"y": "m"}, "step 'm': vote takes labels (whole numbers, BOOL, "),
        ([step("l", "label", x="x"), {"name": "m", "mean": ["l", "l"]}], {"y": "m"},
         "step 'm': mean takes FP16, FP32, FP64, and l is INT64"),
        ([A, step("h", "half", x="x"), {"name": "m", "mean": ["a", "h"]}], {"y": "m"},
         "step 'm': mean takes tensors of one datatype; a is FP32, h is FP64"),
        ([JUDGE, A, {"name": "m", "mean": ["a", "judge.score"]}], {"y": "m"},
         "mean takes tensors of one shape; a is [-1, 2], judge.score is [-1, 1]"),
        ([JUDGE], {"y": "judge"}, "'judge' gives several tensors; expected one of judge.score, judge.word"),
        ([JUDGE], {"y": "judge.nothing"}, "'judge' has no tensor 'nothing'; expected one of judge.score, judge.word"),
        ([step("f", "find", x="x"), step("t", "two", a="x", b="f.found")], {"y": "t"},
         "step 't': x has rows of the request, f.found of step 'f'; rows that are not the same cannot be batched"),
        ([JUDGE, high()], {"y": "high"}, "output 'y': high is not always there, since a condition decides"),
        ([JUDGE, high(), step("s", "sum", x="high")], {"y": "s"},
         "step 's': it takes tensors whole, and high is there for some rows only; choose first"),
        ([JUDGE, high(), {"name": "c", "choose": ["high", "high"]}], {"y": "c"}, "output 'y': c is not always there"),
        ([JUDGE, high(), step("low", "double", {"of": "judge.score", "below": 0.2}, x="x"),
          {"name": "c", "choose": ["high", "low"]}], {"y": "c"},
         "step 'c': there may be none of high, low; end the list with one that is always there"),
        ([JUDGE, high(below=1)], {"y": "high"}, "a condition has one of"),
        ([JUDGE, high(at=1), {"name": "c", "choose": ["high", "x"]}], {"y": "c"},
         "\"at\" is 1, and judge.score has 1 elements for each row"),
        ([JUDGE, A, step("h", "double", {"of": "a", "above": 0}, x="x"), {"name": "c", "choose": ["h", "x"]}],
         {"y": "c", "z": "judge.score"}, "a has 2 elements for each row; say which with \"at\""),
        ([JUDGE, step("h", "double", {"of": "judge.word", "above": 0}, x="x"), {"name": "c", "choose": ["h", "x"]}],
         {"y": "c"}, "its condition compares judge.word, which is BYTES, by above with 0.0"),
        ([JUDGE, high(), step("low", "double", {"of": "judge.score", "below": 0.2}, x="x"),
          step("t", "two", a="high", b="low")], {"y": "t"}, "are there under different conditions"),
        ([{"name": "m", "mean": ["x", "x"]}], {"y": "m"}, "input 'x': no model takes it, so nobody knows what it is"),
        ([A, {"name": "m", "concat": ["a", "x"], "axis": 0}], {"y": "m"}, "concat joins along an axis behind the rows"),
        ([step(f"s{i}", "double", x="x") for i in range(65)], {"y": "s1"}, "65 steps, and at most 64 are allowed"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_the_step(
    steps: list[dict[str, Any]], outputs: dict[str, str], said: str
) -> None:
    with pytest.raises(InvalidConfiguration) as raised:
        judged(steps, outputs)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_branches_join_where_one_of_them_always_is_there() -> None:
    low = step("low", "double", {"of": "judge.score", "at_most": 0.5}, x="x")
    deeper = step("deeper", "double", x="high")
    steps = [JUDGE, high(), low, deeper, {"name": "c", "choose": ["deeper", "low"]}]
    assert judged(steps, {"y": "c"}).signature.batched
    nested = step("rare", "double", {"of": "judge.word", "equals": "rare"}, x="high")
    inner = {"name": "inner", "choose": ["rare", "high"]}
    steps = [JUDGE, high(), nested, inner, {"name": "c", "choose": ["inner", "x"]}]
    assert judged(steps, {"y": "c"}).signature.outputs[0].shape == ROWS


def test_a_condition_on_a_step_that_runs_whole_decides_for_the_request() -> None:
    find = step("f", "find", {"of": "s", "above": 0}, x="x")
    steps = [step("s", "sum", x="x"), find, step("g", "find", x="x"), {"name": "c", "choose": ["f.found", "g.found"]}]
    whole = judged(steps, {"y": "c"})
    assert (whole.signature.outputs[0].shape, whole.signature.batched) == (ROWS, False)


def test_a_folder_becomes_one_bundle_and_the_same_folder_the_same_bundle(tmp_path: Path) -> None:
    declared = {
        "inputs": ["x"],
        "steps": [step("a", "double.onnx", x="x"), step("b", "double.onnx", x="a"), step("j", "total.onnx", x="b")],
        "outputs": {"z": "j", "y": "b"},
    }
    folder = composition(tmp_path / "two", declared, {"double.onnx": scale(2), "total.onnx": total()})
    (folder / "elsewhere.py").write_text("import setpoint as sp\n\nclass Other(sp.Model):\n    ...\n")
    assert recognise(folder).name == "composition", "also beside a Python class"
    packed = [pack(folder, PackOptions(), tmp_path / f"work{i}") for i in range(2)]
    assert packed[0].manifest == packed[1].manifest
    manifest = ModelManifest.from_json(packed[0].manifest.to_json())
    assert manifest == packed[0].manifest
    assert sorted(packed[0].files) == ["composition.json", "parts/a/model.onnx", "parts/j/model.onnx"]
    assert isinstance(manifest.composition, Composition)
    assert sorted(manifest.composition.parts) == ["a", "j"], "two steps of one file share it"
    assert manifest.signature is not None
    assert [spec.name for spec in manifest.signature.outputs] == ["z", "y"]
    (folder / "composition.json").write_text(json.dumps(declared | {"outputs": {"y": "b", "z": "j"}}))
    assert pack(folder, PackOptions(), tmp_path / "work2").manifest.lineage != manifest.lineage


def test_a_step_is_probed_with_rows_of_its_own_where_there_are_some(tmp_path: Path) -> None:
    declared = {"inputs": ["x"], "steps": [step("a", "x.onnx", x="x") | {"sample": "rows.npz"}], "outputs": {"y": "a"}}
    folder = composition(tmp_path / "it", declared, {"x.onnx": scale(2)})
    with pytest.raises(InvalidConfiguration, match=r"step 'a': there is no 'rows.npz' beside composition.json"):
        pack(folder, PackOptions(), tmp_path / "none")
    np.savez(folder / "rows.npz", x=np.ones((5, 2), np.float32))
    (check,) = pack(folder, PackOptions(), tmp_path / "work").manifest.lineage.checks
    assert check.startswith("a: ")
    assert "made-up" not in check


def test_the_text_of_other_manifests_does_not_mention_compositions(tmp_path: Path) -> None:
    folder = composition(tmp_path / "x", {}, {"one.onnx": scale(2)})
    alone = pack(folder / "one.onnx", PackOptions(), tmp_path / "work").manifest
    assert b"composition" not in alone.to_json(), "or their digests would change"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "../one.onnx"}, "lies outside the composition's folder"),
        ({"model": "/etc/passwd"}, "lies outside the composition's folder"),
        ({"model": "none.onnx"}, "there is no 'none.onnx' beside composition.json"),
        ({"model": "composition.json"}, "is this composition itself"),
        ({"model": "."}, "is this composition itself"),
        ({"model": "junk.onnx"}, "is of no format that Setpoint reads"),
        ({"model": "text.py"}, "takes or gives more than tensors (endpoints ask)"),
        ({"models": "one.onnx"}, "unknown field `models`"),
        ({"model": "inner"}, "is a composition itself; put its steps into this one"),
    ],
)
def test_a_model_that_cannot_be_a_step_is_refused(tmp_path: Path, change: dict[str, str], said: str) -> None:
    declared = {"inputs": ["x"], "steps": [step("a", "one.onnx", x="x") | change], "outputs": {"y": "a"}}
    folder = composition(tmp_path / "it", declared, {"one.onnx": scale(2), "text.py": TEXT, "junk.onnx": "junk"})
    composition(folder / "inner", declared, {})
    with pytest.raises(ConfigurationError, match=r"composition\.json: ") as raised:
        pack(folder, PackOptions(), tmp_path / "work")
    assert said in str(raised.value)


def test_a_file_that_is_no_composition_is_refused(tmp_path: Path) -> None:
    for text, said in (("{", "composition.json: "), ("[]", "Expected `object`"), (" " * (1 << 21), "at most 1048576")):
        folder = composition(tmp_path / f"c{len(text)}", {}, {})
        (folder / "composition.json").write_text(text)
        with pytest.raises(InvalidConfiguration, match=said):
            pack(folder, PackOptions(), tmp_path / "work")


def test_the_page_shows_a_composition_that_is_one() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "formats.md").read_text()
    (example,) = [text for text in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if '"steps"' in text]
    declared = msgspec.json.decode(example, type=Declared)
    check(declared)
    assert [one.name for one in in_order(declared)] == [one.name for one in declared.steps]


def test_a_label_is_a_step_like_any_other(tmp_path: Path) -> None:
    declared = {"inputs": ["x"], "steps": [step("a", "label.onnx", x="x")], "outputs": {"y": "a"}}
    folder = composition(tmp_path / "it", declared, {"label.onnx": label(1)})
    assert pack(folder, PackOptions(), tmp_path / "work").manifest.endpoints[0].name == "predict"
    assert DeclaredStep("m", mean=("a", "b")).combination == "mean"
